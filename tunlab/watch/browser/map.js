// The lab as a picture, and where in it things are. Positions come from the server; nothing is laid out here.

import { draw, kindOf } from "./boxes.js";

const CHIP_WIDTH = 112, CHIP_HEIGHT = 20, LETTERS = 15;

export class LabMap {
  constructor(element, opened) {
    this.element = element;
    this.opened = opened;
    this.points = new Map();
    this.places = new Map();
    this.wires = new Map();
  }

  /** Draw a picture, in place of the one before. */
  show(picture) {
    this.points.clear();
    this.places.clear();
    this.wires.clear();
    const svg = draw("svg", { viewBox: `0 0 ${picture.width} ${picture.height}`, role: "group", "aria-label": picture.lab });
    for (const place of picture.places) {
      this.points.set(place.name, { x: place.x + place.width / 2, y: place.y + place.height / 2 });
      for (const device of place.devices) this.points.set(`${place.name}/${device.name}`, device);
    }
    for (const link of picture.links) {
      const [from, to] = [this.at(...link.from), this.at(...link.to)];
      const wire = draw("line", { class: "wire", x1: from.x, y1: from.y, x2: to.x, y2: to.y });
      this.wires.set(`${link.from.join("/")} ${link.to.join("/")}`, wire);
      this.wires.set(`${link.to.join("/")} ${link.from.join("/")}`, wire);
      svg.append(wire);
    }
    for (const place of picture.places) svg.append(this.drawPlace(place));
    this.top = draw("g");
    svg.append(this.top);
    this.element.replaceChildren(svg);
  }

  drawPlace(place) {
    const middle = place.x + place.width / 2;
    const group = draw("g", { class: `place ${place.kind}`, tabindex: 0, role: "button", "aria-label": `${place.kind} ${place.name}` });
    group.dataset.place = place.name;
    group.append(draw("rect", { x: place.x, y: place.y, width: place.width, height: place.height, rx: 8 }));
    const isFlat = place.kind === "segment";
    const name = draw("text", { class: "name", x: isFlat ? middle - 44 : middle, y: isFlat ? place.y + 21 : place.y + 27 + (place.kind === "node" ? 10 : 0) }, place.name);
    const says = draw("text", { class: "says", x: isFlat ? middle + 44 : middle, y: isFlat ? place.y + 21 : place.y + 44 + (place.kind === "node" ? 10 : 0) }, place.says);
    group.append(name, says);
    for (const device of place.devices) group.append(isFlat ? draw("circle", { class: "port", cx: device.x, cy: device.y, r: 5 }) : chip(device));
    group.addEventListener("click", () => this.opened(place.name));
    group.addEventListener("keydown", (event) => {
      if (event.key === "Enter" || event.key === " ") { event.preventDefault(); this.opened(place.name); }
    });
    this.places.set(place.name, group);
    return group;
  }

  /** Where a device is; where it is not drawn, its place's middle; null where that is not either. */
  at(place, device) {
    return this.points.get(`${place}/${device}`) ?? this.points.get(place) ?? null;
  }

  /** Mark the place where the packet is, and the wire it came by. */
  mark(point, before) {
    for (const group of this.places.values()) group.classList.remove("here");
    this.places.get(point.place)?.classList.add("here");
    for (const wire of this.wires.values()) wire.classList.remove("used");
    if (before) this.wires.get(`${before.place}/${before.device} ${point.place}/${point.device}`)?.classList.add("used");
  }

  /** Mark where a packet died; none: nowhere. */
  markDead(place) {
    for (const [name, group] of this.places) group.classList.toggle("dead", name === place);
  }

  /** A packet as boxes within boxes, outermost the largest, with its stack under it. */
  glyph() {
    const group = draw("g", { class: "glyph", id: "packet" });
    this.top.append(group);
    return group;
  }
}

function chip(device) {
  const text = device.name.length > LETTERS ? `${device.name.slice(0, LETTERS - 1)}…` : device.name;
  return draw("g", { class: "chip" },
    draw("title", {}, device.name),
    draw("rect", { x: device.x - CHIP_WIDTH / 2, y: device.y - CHIP_HEIGHT / 2, width: CHIP_WIDTH, height: CHIP_HEIGHT, rx: 5 }),
    draw("text", { x: device.x, y: device.y + 4 }, text));
}

/** Give a glyph the look of a stack of headers. */
export function wrap(glyph, stack) {
  if (glyph.dataset.stack === stack) return;
  glyph.dataset.stack = stack;
  const words = stack.split(" ");
  const boxes = words.map((word, number) => {
    const size = words.length - number;
    const [width, height] = [10 + size * 11, 8 + size * 7];
    return draw("rect", { class: kindOf(word), x: -width / 2, y: -height / 2, width, height, rx: 3 });
  });
  const below = 4 + words.length * 3.5 + 16;
  const label = draw("rect", { class: "label", x: -stack.length * 4.2, y: below - 12, width: stack.length * 8.4, height: 16, rx: 3 });
  glyph.replaceChildren(...boxes, label, draw("text", { x: 0, y: below }, stack));
}
