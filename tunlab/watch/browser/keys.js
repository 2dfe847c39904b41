// What a key sends to a program at a terminal.

const SIMPLE = { Enter: "\r", Backspace: "\x7f", Tab: "\t", Escape: "\x1b", Delete: "\x1b[3~", Insert: "\x1b[2~", PageUp: "\x1b[5~", PageDown: "\x1b[6~",
  F1: "\x1bOP", F2: "\x1bOQ", F3: "\x1bOR", F4: "\x1bOS", F5: "\x1b[15~", F6: "\x1b[17~", F7: "\x1b[18~", F8: "\x1b[19~", F9: "\x1b[20~", F10: "\x1b[21~" };
const CURSOR = { ArrowUp: "A", ArrowDown: "B", ArrowRight: "C", ArrowLeft: "D", Home: "H", End: "F" };

/** The bytes of a key, as text; null: it is the browser's own business. */
export function bytesOf(event, applicationCursor) {
  if (event.isComposing || event.metaKey || (event.ctrlKey && event.shiftKey)) return null; // copy, paste, the browser's tools
  const key = event.key;
  if (key === "Tab" && event.shiftKey) return null; // the way out, by keyboard
  if (CURSOR[key]) {
    const shift = 1 + (event.shiftKey ? 1 : 0) + (event.altKey ? 2 : 0) + (event.ctrlKey ? 4 : 0);
    if (shift > 1) return `\x1b[1;${shift}${CURSOR[key]}`;
    return `\x1b${applicationCursor ? "O" : "["}${CURSOR[key]}`;
  }
  if (SIMPLE[key]) return (event.altKey ? "\x1b" : "") + SIMPLE[key];
  if ([...key].length !== 1) return null;
  if (event.ctrlKey && !event.altKey) {
    if (key === " ") return "\0";
    const code = key.toUpperCase().charCodeAt(0);
    return code >= 64 && code < 96 ? String.fromCharCode(code & 31) : null;
  }
  return event.altKey && !event.ctrlKey ? `\x1b${key}` : key;
}
