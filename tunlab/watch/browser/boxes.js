// Elements made by hand: whatever comes from names, packets and tables is text, never markup.

/** An element with a class, attributes and children; strings become text. */
export function make(name, className = "", ...children) {
  const made = document.createElement(name);
  if (className) made.className = className;
  made.append(...children);
  return made;
}

const SVG = "http://www.w3.org/2000/svg";

/** The same for SVG, with attributes. */
export function draw(name, attributes = {}, ...children) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

const WORDS = new Set(["eth", "arp", "ip", "ipv6", "udp", "tcp", "vxlan", "icmp", "icmpv6"]);

/** The class of a header, by its word. */
export function kindOf(word) {
  return WORDS.has(word) ? word : "unknown";
}

/** Headers as boxes, each within the one before it. */
export function nested(headers) {
  let inner = null;
  for (const text of [...headers].reverse()) {
    const [word, ...rest] = text.split(" ");
    const box = make("div", `header ${kindOf(word)}`, make("b", "", word), rest.join(" "));
    if (inner) box.append(inner);
    inner = box;
  }
  return inner ?? make("div");
}
