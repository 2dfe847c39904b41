// The page: what is told goes to the map, the headers, the lists; what is clicked goes to the lab.

import { ask, isOurs, listen } from "./link.js";
import { make, nested } from "./boxes.js";
import { Drawer } from "./drawer.js";
import { LabMap } from "./map.js";
import { Motion, pointsOf } from "./motion.js";

const MOST_FRAMES = 80;
const TRY_AGAIN_MS = 500; // another page's ping is under way
const by = (id) => document.getElementById(id);
const drawer = new Drawer(by("drawer"));
const map = new LabMap(by("map"), (place) => drawer.showPlace(place));
const motion = new Motion(map, arrived, ended);
let isRunning = false; // ping after ping
let isAsking = false; // a ping's way is not known yet
let missed = 0;

// ------------------------------------------------------------------ a packet on its way
function play(packet) {
  packet.points = pointsOf(packet.ways);
  if (packet.points.length === 0) return ended(packet);
  if (packet.isAsked) motion.playNow(packet); else motion.play(packet);
}

function arrived(packet, number) {
  const point = packet.points[number];
  if (number === 0) { by("title").textContent = packet.title; map.markDead(null); showWay(packet); if (!packet.isAsked) say(""); }
  by("now").replaceChildren(nested(point.headers));
  const items = [...by("way").children];
  items.forEach((item, each) => item.classList.toggle("here", each === number));
  if (items[number]) { explain(items[number], packet, number); items[number].scrollIntoView({ block: "nearest" }); }
}

function ended(packet) {
  if (packet.isAsked) {
    const death = packet.death;
    if (death) { map.markDead(death.place); say(`${packet.title}: died at ${death.place}${death.device ? `/${death.device}` : ""}: ${death.why}. What would help: ${death.remedy}`, true); }
    else say(`${packet.title}: ${packet.outcome} in ${(1000 * packet.rtt_s).toFixed(2)} ms`, packet.outcome !== "answered");
    packet.hasEnded = true;
    if (isRunning && !motion.isPaused) step();
  }
}

function showWay(packet) {
  by("way").replaceChildren(...packet.points.map((point) => {
    const text = `${point.place}/${point.device} ${point.direction}  ${(1000 * point.since_start_s).toFixed(3)} ms  ${point.stack}`;
    return make("li", "", point.way === "there" || !point.way ? text : `${point.way}: ${text}`);
  }));
}

/** What a place decided stands with the last sighting there. */
function explain(item, packet, number) {
  const point = packet.points[number];
  if (item.dataset.explained || packet.points[number + 1]?.hop === point.hop || !point.hop.decisions.length) return;
  item.dataset.explained = "yes";
  for (const one of point.hop.decisions) {
    item.append(make("code", one.what === "dropped by rule" ? "decision-bad" : "", `${one.what}: ${one.says}   # ${one.command}`));
  }
}

function say(text, isBad = false) {
  by("said").textContent = text;
  by("said").classList.toggle("bad", isBad);
}

// ------------------------------------------------------------------ pings
async function step() {
  if (isAsking) return;
  isAsking = true;
  by("step").disabled = true;
  say(`${by("from").value} → ${by("to").value}: sent …`);
  try {
    await ask("step", { from: by("from").value, to: by("to").value });
  } catch (error) {
    if (!isRunning) return failed(error.message);
    isAsking = false;
    say(error.message);
    setTimeout(() => { if (isRunning && !motion.isPaused && !motion.packet?.isAsked) step(); }, TRY_AGAIN_MS);
  }
}

function failed(why) {
  isAsking = isRunning = false;
  by("step").disabled = false;
  say(why, true);
}

let asked = null;

function stepped(event) {
  if (!isOurs(event) && (isAsking || isRunning)) return; // another page's: shown where nothing else goes on
  isAsking = false;
  by("step").disabled = false;
  const title = `${event.source} → ${event.target}`;
  asked = { ...event, title, isAsked: true, death: event.death };
  say(`${title}: ${event.outcome}`);
  play(asked);
}

function explained(event) {
  if (asked?.number !== event.number) return;
  asked.death = event.death;
  for (const point of asked.points) {
    const hop = event.ways[point.way]?.find((one) => one.place === point.hop.place && one.sightings[0].since_start_s === point.hop.sightings[0].since_start_s);
    if (hop) point.hop.decisions = hop.decisions;
  }
  [...by("way").children].forEach((item, number) => { if (motion.packet === asked ? number <= motion.number : asked.hasEnded) explain(item, asked, number); });
  if (asked.hasEnded) { asked.hasEnded = false; const again = isRunning; isRunning = false; ended(asked); isRunning = again; }
}

by("step").addEventListener("click", () => { resume(); step(); });
by("start").addEventListener("click", () => { isRunning = true; resume(); if (!motion.packet?.isAsked) step(); });
by("pause").addEventListener("click", () => { if (motion.isPaused) resume(); else { motion.isPaused = true; showPause(); } });
by("hop").addEventListener("click", () => { motion.isPaused = true; showPause(); motion.nextHop(); });
by("speed").addEventListener("input", setSpeed);
by("controls").addEventListener("submit", (event) => event.preventDefault());

function resume() {
  const wasPaused = motion.isPaused;
  motion.isPaused = false;
  showPause();
  if (wasPaused && isRunning && !motion.packet) step();
}

function showPause() {
  by("pause").setAttribute("aria-pressed", motion.isPaused);
  by("pause").textContent = motion.isPaused ? "Go on" : "Pause";
  document.body.dataset.state = motion.isPaused ? "paused" : "moving";
}

function setSpeed() {
  motion.millisecondsPerHop = 3000 * Math.pow(0.03, by("speed").value / 100); // 3 s to 0.09 s
}

// ------------------------------------------------------------------ what is told
function showPicture(picture) {
  motion.clear();
  map.show(picture);
  document.title = `${picture.lab}: tunlab watch`;
  by("lab").textContent = picture.lab;
  by("kind").textContent = picture.system ? `${picture.system}, mode ${picture.mode}, in ${picture.box}` : "no system installed";
  for (const [id, usual] of [["from", 0], ["to", 1]]) {
    const before = by(id).value;
    by(id).replaceChildren(...picture.senders.map((name) => make("option", "", name)));
    by(id).value = picture.senders.includes(before) ? before : picture.senders[Math.min(usual, picture.senders.length - 1)];
  }
  if (by("from").value === picture.senders[0] && picture.far) by("to").value = picture.far;
  if (isRunning && !motion.isPaused) step(); // the map has changed, and what moved on it is gone
}

function showFrames(event) {
  missed += event.missed;
  by("missed").textContent = missed ? `${missed} too fast to show` : "";
  for (const frame of event.frames) {
    if (!isWanted(frame)) continue;
    const time = make("button", "", frame.since_start_s.toFixed(3)); // by keyboard, too; what it does the row does
    time.setAttribute("aria-label", `headers of the frame on ${frame.tap}, ${frame.direction}`);
    const row = make("tr", "", ...[time, frame.tap, frame.direction, frame.stack].map((cell) => make("td", "", cell)));
    row.title = frame.headers.join("\n");
    row.addEventListener("click", () => { by("title").textContent = `frame on ${frame.tap}, ${frame.direction}`; by("now").replaceChildren(nested(frame.headers)); });
    by("frames").prepend(row);
  }
  while (by("frames").children.length > MOST_FRAMES) by("frames").lastChild.remove();
}

function showPacket(event) {
  if (isAsking || motion.packet?.isAsked || motion.isPaused || !isWanted(event)) return;
  play({ title: event.title, ways: { "": event.hops } });
}

function isWanted(told) {
  return told.subject === "pods" || by("control").checked;
}

function showEnd(why) {
  if (!by("gone").hidden) return;
  by("gone").textContent = why;
  by("gone").hidden = false;
  isRunning = false;
  for (const button of by("controls").querySelectorAll("button, select")) button.disabled = true;
}

setSpeed();
showPause();
const hangUp = listen({
  picture: showPicture,
  frames: showFrames,
  packet: showPacket,
  step: stepped,
  "step-failed": (event) => { if (isOurs(event)) failed(event.hint ? `${event.why} (${event.hint})` : event.why); },
  explained,
  shell: (event) => drawer.hear(event),
  "shell-ended": (event) => drawer.hear(event),
  gone: (event) => { showEnd(event.hint ? `${event.why}: ${event.hint}` : event.why); hangUp(); },
}, () => showEnd("./lab watch has ended: start it again and open the new address"));
