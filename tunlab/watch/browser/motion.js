// One packet after the other, moved over the map from sighting to sighting, in the order in which the taps saw it.

import { wrap } from "./map.js";

const MOST_WAITING = 6;

/** The points of a packet's ways: every sighting, with the hop it belongs to. */
export function pointsOf(ways) {
  const points = [];
  for (const [way, hops] of Object.entries(ways)) {
    for (const hop of hops) {
      for (const sighting of hop.sightings) points.push({ way, hop, place: hop.place, ...sighting });
    }
  }
  return points;
}

export class Motion {
  /** `arrived(packet, number)` at every point, `ended(packet)` after the last. */
  constructor(map, arrived, ended) {
    this.map = map;
    this.arrived = arrived;
    this.ended = ended;
    this.isPaused = false;
    this.millisecondsPerHop = 600;
    this.waiting = [];
    this.packet = null;
    this.dropped = 0;
    requestAnimationFrame((now) => this.frame(now));
  }

  /** Play a packet {points} when its turn comes; false when too many wait already. */
  play(packet) {
    if (this.waiting.length >= MOST_WAITING) { this.dropped += 1; return false; }
    this.waiting.push(packet);
    return true;
  }

  /** Play it now; whatever else was under way is let go. */
  playNow(packet) {
    this.waiting = [packet];
    this.end();
  }

  /** On to the next point, while paused. */
  nextHop() {
    this.mayMoveOnce = true;
  }

  /** Forget all packets: the map has changed. */
  clear() {
    this.waiting = [];
    this.end();
  }

  end() {
    this.glyph?.remove();
    this.glyph = this.packet = null;
    this.hasArrived = this.mayMoveOnce = false;
  }

  begin() {
    this.packet = this.waiting.shift();
    this.glyph = this.map.glyph();
    this.number = 0;
    this.share = 1; // the first point is where it begins
  }

  frame(now) {
    const passed = Math.min(200, now - (this.last ?? now));
    this.last = now;
    if (!this.packet && this.waiting.length && !this.isPaused) this.begin();
    if (this.packet && (!this.isPaused || this.mayMoveOnce)) this.move(passed);
    requestAnimationFrame((next) => this.frame(next));
  }

  move(passed) {
    const points = this.packet.points;
    const here = points[this.number], before = points[this.number - 1];
    const to = this.map.at(here.place, here.device);
    const from = (before && this.map.at(before.place, before.device)) ?? to;
    this.share += passed / this.millisecondsPerHop;
    const share = Math.min(1, this.share);
    wrap(this.glyph, share < 1 && before ? before.stack : here.stack);
    if (to) this.glyph.setAttribute("transform", `translate(${from.x + (to.x - from.x) * share} ${from.y + (to.y - from.y) * share})`);
    if (share < 1) return;
    if (!this.hasArrived) {
      this.hasArrived = true;
      this.mayMoveOnce = false;
      this.map.mark(here, before);
      this.glyph.dataset.at = `${here.place}/${here.device}`;
      this.arrived(this.packet, this.number);
      if (this.isPaused) return;
    }
    if (this.share < 1.35) return; // it stays a moment, to be read
    this.hasArrived = false;
    this.share = 0;
    this.number += 1;
    if (this.number >= points.length) {
      const packet = this.packet;
      this.end();
      this.ended(packet);
    }
  }
}
