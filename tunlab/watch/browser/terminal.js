// A small terminal: what bash, less, top, watch and vi need of an xterm, and no more.

import { make } from "./boxes.js";
import { bytesOf } from "./keys.js";

const MOST_HISTORY = 1000;
const PLAIN = { fg: null, bg: null, bold: false, dim: false, italic: false, underline: false, inverse: false };
const COLOURS = ["#20262d", "#f07178", "#8fd17a", "#e7c46a", "#72aaf7", "#d394e8", "#63c9cf", "#d8dee6",
  "#66727f", "#ff9aa0", "#b4eaa2", "#ffe08d", "#a0c8ff", "#e8b8f7", "#93e8ed", "#ffffff"];

export class Terminal {
  constructor(parent, title) {
    this.onInput = () => {};
    this.onResize = () => {};
    this.element = make("div", "screen");
    this.element.tabIndex = 0;
    this.element.setAttribute("role", "textbox");
    this.element.setAttribute("aria-label", title);
    parent.append(this.element);
    this.decoder = new TextDecoder();
    this.modes = { applicationCursor: false, pastesInBrackets: false, wraps: true, showsCursor: true };
    this.pen = PLAIN;
    this.rest = "";
    this.main = new Screen(this.element);
    this.other = new Screen(this.element);
    this.other.hide();
    this.screen = this.main;
    this.measure();
    this.element.addEventListener("keydown", (event) => this.pressed(event));
    this.element.addEventListener("paste", (event) => this.pasted(event));
  }

  focus() { this.element.focus({ preventScroll: true }); }

  size() { return { rows: this.rows, columns: this.columns }; }

  /** Take the size that there is; tell the far end when it is another one. */
  fit() {
    const before = `${this.rows}x${this.columns}`;
    this.measure();
    if (before !== `${this.rows}x${this.columns}`) this.onResize(this.size());
  }

  measure() {
    const probe = make("span", "probe", "M".repeat(50));
    this.element.append(probe);
    const letter = probe.getBoundingClientRect().width / 50 || 8;
    probe.remove();
    this.columns = Math.max(20, Math.min(300, Math.floor((this.element.clientWidth - 18) / letter)));
    this.rows = Math.max(4, Math.min(200, Math.floor((this.element.clientHeight - 10) / 18)));
    for (const screen of [this.main, this.other]) screen.resize(this.rows, this.columns);
  }

  /** Bytes from the far end. */
  write(bytes) {
    const follows = this.element.scrollTop + this.element.clientHeight >= this.element.scrollHeight - 40;
    this.parse(this.rest + this.decoder.decode(bytes, { stream: true }));
    this.screen.render(this.modes.showsCursor);
    if (follows) this.element.scrollTop = this.element.scrollHeight;
  }

  // ---------------------------------------------------------------- what is typed
  pressed(event) {
    const text = bytesOf(event, this.modes.applicationCursor);
    if (text === null) return;
    event.preventDefault();
    this.element.scrollTop = this.element.scrollHeight;
    this.onInput(text);
  }

  pasted(event) {
    event.preventDefault();
    const text = event.clipboardData.getData("text").replace(/\r?\n/g, "\r").replaceAll("\x1b", "");
    this.onInput(this.modes.pastesInBrackets ? `\x1b[200~${text}\x1b[201~` : text);
  }

  // ---------------------------------------------------------------- what is shown
  parse(text) {
    let at = 0;
    this.rest = "";
    while (at < text.length) {
      const letter = text[at];
      if (letter === "\x1b") {
        const taken = this.escape(text.slice(at, at + 4096));
        if (taken === 0) { this.rest = text.slice(at); return; }
        at += taken;
      } else {
        if (letter < " " || letter === "\x7f") this.control(letter);
        else {
          const code = text.codePointAt(at);
          if (code > 0xffff) at += 1;
          this.screen.put(String.fromCodePoint(code), this.pen, this.modes.wraps);
        }
        at += 1;
      }
    }
  }

  control(letter) {
    const screen = this.screen;
    if (letter === "\n" || letter === "\v" || letter === "\f") screen.lineFeed();
    else if (letter === "\r") screen.moveTo(screen.y, 0);
    else if (letter === "\b") screen.moveTo(screen.y, Math.min(screen.x, screen.columns - 1) - 1);
    else if (letter === "\t") screen.moveTo(screen.y, (Math.floor(screen.x / 8) + 1) * 8);
  }

  /** How many letters the sequence takes; 0: its end is not there yet. */
  escape(text) {
    if (text.length < 2) return 0;
    const screen = this.screen;
    switch (text[1]) {
      case "[": {
        const found = /^\x1b\[([<-?]?)([0-9;:]*)([ -/]*)([@-~])/.exec(text);
        if (!found) return /^\x1b\[[0-?]*[ -/]*$/.test(text) && text.length < 100 ? 0 : 2;
        this.sequence(found[1], found[2].split(/[;:]/).map((one) => (one === "" ? null : Number(one))), found[4], found[3]);
        return found[0].length;
      }
      case "]": case "P": case "_": case "^": { // titles and the like: nothing to see
        const end = /\x07|\x1b\\/.exec(text.slice(2));
        return end ? 2 + end.index + end[0].length : text.length >= 4096 ? text.length : 0;
      }
      case "(": case ")": case "*": case "+": case "#": case "%": return text.length < 3 ? 0 : 3;
      case "7": screen.save(this.pen); return 2;
      case "8": this.pen = screen.restore() ?? PLAIN; return 2;
      case "D": screen.lineFeed(); return 2;
      case "E": screen.moveTo(screen.y, 0); screen.lineFeed(); return 2;
      case "M": screen.reverseFeed(); return 2;
      case "c": this.pen = PLAIN; screen.clear(); return 2;
      default: return 2;
    }
  }

  sequence(mark, numbers, letter, between) {
    if (between) return;
    if (mark === "?") { if (letter === "h" || letter === "l") for (const one of numbers) this.setMode(one, letter === "h"); return; }
    if (mark) return;
    const screen = this.screen, n = numbers[0] || 1, { x, y } = screen;
    switch (letter) {
      case "A": screen.moveTo(y - n, x); break;
      case "B": case "e": screen.moveTo(y + n, x); break;
      case "C": case "a": screen.moveTo(y, x + n); break;
      case "D": screen.moveTo(y, Math.min(x, screen.columns - 1) - n); break;
      case "E": screen.moveTo(y + n, 0); break;
      case "F": screen.moveTo(y - n, 0); break;
      case "G": case "`": screen.moveTo(y, n - 1); break;
      case "H": case "f": screen.moveTo(n - 1, (numbers[1] || 1) - 1); break;
      case "d": screen.moveTo(n - 1, x); break;
      case "J": screen.eraseScreen(numbers[0] ?? 0, this.pen); break;
      case "K": screen.eraseLine(numbers[0] ?? 0, this.pen); break;
      case "L": screen.insertLines(n); break;
      case "M": screen.deleteLines(n); break;
      case "P": screen.deleteLetters(n, this.pen); break;
      case "@": screen.insertLetters(n, this.pen); break;
      case "X": screen.eraseLetters(n, this.pen); break;
      case "S": for (let i = 0; i < Math.min(n, screen.rows); i++) screen.scrollUp(); break;
      case "T": for (let i = 0; i < Math.min(n, screen.rows); i++) screen.scrollDown(); break;
      case "m": this.pen = paint(this.pen, numbers); break;
      case "r": screen.setRegion(n - 1, (numbers[1] || screen.rows) - 1); break;
      case "s": screen.save(this.pen); break;
      case "u": this.pen = screen.restore() ?? this.pen; break;
      case "n": if (numbers[0] === 6) this.onInput(`\x1b[${y + 1};${Math.min(x, screen.columns - 1) + 1}R`); break;
      case "c": this.onInput("\x1b[?1;2c"); break;
    }
  }

  setMode(number, isOn) {
    if (number === 1) this.modes.applicationCursor = isOn;
    else if (number === 7) this.modes.wraps = isOn;
    else if (number === 25) this.modes.showsCursor = isOn;
    else if (number === 2004) this.modes.pastesInBrackets = isOn;
    else if (number === 47 || number === 1047 || number === 1049) {
      const wanted = isOn ? this.other : this.main;
      if (wanted === this.screen) return;
      if (isOn) { this.main.save(this.pen); this.other.clear(); }
      this.screen.hide();
      this.screen = wanted;
      wanted.reveal();
      if (!isOn) this.pen = this.main.restore() ?? PLAIN;
    }
  }
}

/** A pen after a colour sequence. */
function paint(pen, numbers) {
  let after = { ...pen };
  for (let i = 0; i < numbers.length; i++) {
    const one = numbers[i] ?? 0;
    if (one === 0) after = { ...PLAIN };
    else if (one === 1) after.bold = true;
    else if (one === 2) after.dim = true;
    else if (one === 3) after.italic = true;
    else if (one === 4) after.underline = true;
    else if (one === 7) after.inverse = true;
    else if (one === 22) after.bold = after.dim = false;
    else if (one === 23) after.italic = false;
    else if (one === 24) after.underline = false;
    else if (one === 27) after.inverse = false;
    else if (one >= 30 && one <= 37) after.fg = COLOURS[one - 30];
    else if (one >= 40 && one <= 47) after.bg = COLOURS[one - 40];
    else if (one >= 90 && one <= 97) after.fg = COLOURS[one - 82];
    else if (one >= 100 && one <= 107) after.bg = COLOURS[one - 92];
    else if (one === 39) after.fg = null;
    else if (one === 49) after.bg = null;
    else if (one === 38 || one === 48) {
      const colour = numbers[i + 1] === 5 ? indexed(numbers[i + 2] ?? 0) : `rgb(${numbers.slice(i + 2, i + 5).map((part) => (part ?? 0) & 255).join(",")})`;
      i += numbers[i + 1] === 5 ? 2 : 4;
      if (one === 38) after.fg = colour; else after.bg = colour;
    }
  }
  return after;
}

function indexed(number) {
  if (number < 16) return COLOURS[number];
  if (number >= 232) { const grey = 8 + (number - 232) * 10; return `rgb(${grey},${grey},${grey})`; }
  const parts = [Math.floor((number - 16) / 36), Math.floor((number - 16) / 6) % 6, (number - 16) % 6];
  return `rgb(${parts.map((part) => (part ? part * 40 + 55 : 0)).join(",")})`;
}

/** A grid of letters with a cursor; rows that leave at the top stay above it, as history. */
class Screen {
  constructor(parent) {
    this.element = make("div");
    parent.append(this.element);
    this.lines = [];
    this.past = [];
    this.x = this.y = this.rows = this.columns = 0;
    this.top = this.bottom = 0;
  }

  hide() { this.element.hidden = true; }
  reveal() { this.element.hidden = false; }

  blank(pen = PLAIN) { return { letter: " ", pen: pen.bg ? { ...PLAIN, bg: pen.bg } : PLAIN }; }
  newLine() {
    const element = make("div", "row");
    return { cells: Array.from({ length: this.columns }, () => this.blank()), element, isDirty: true };
  }

  resize(rows, columns) {
    this.columns = columns;
    for (const line of this.lines) {
      while (line.cells.length < columns) line.cells.push(this.blank());
      line.cells.length = columns;
      line.isDirty = true;
    }
    while (this.lines.length > rows) {
      if (this.y < this.lines.length - 1) this.lines.pop().element.remove();
      else { this.remember(this.lines.shift()); this.y -= 1; }
    }
    while (this.lines.length < rows) { const line = this.newLine(); this.lines.push(line); this.element.append(line.element); }
    this.rows = rows;
    this.top = 0;
    this.bottom = rows - 1;
    this.moveTo(this.y, this.x);
  }

  remember(line) {
    line.isDirty && this.renderLine(line, -1);
    this.past.push(line.element);
    if (this.past.length > MOST_HISTORY) this.past.shift().remove();
  }

  moveTo(y, x) {
    this.touch();
    this.y = Math.max(0, Math.min(this.rows - 1, y));
    this.x = Math.max(0, Math.min(this.columns - 1, x));
    this.touch();
  }

  touch() { const line = this.lines[this.y]; if (line) line.isDirty = true; }
  save(pen) { this.saved = { x: this.x, y: this.y, pen }; }
  restore() { if (!this.saved) return null; this.moveTo(this.saved.y, this.saved.x); return this.saved.pen; }
  setRegion(top, bottom) {
    if (top < bottom && bottom < this.rows) { this.top = top; this.bottom = bottom; this.moveTo(0, 0); }
  }

  put(letter, pen, wraps) {
    if (this.x >= this.columns) {
      if (wraps) { this.x = 0; this.lineFeed(); } else this.x = this.columns - 1;
    }
    this.lines[this.y].cells[this.x] = { letter, pen };
    this.x += 1; // may stand behind the last column until the next letter comes
    this.touch();
  }

  lineFeed() {
    this.touch();
    if (this.y === this.bottom) this.scrollUp();
    else if (this.y < this.rows - 1) this.y += 1;
    this.touch();
  }

  reverseFeed() {
    this.touch();
    if (this.y === this.top) this.scrollDown(); else if (this.y > 0) this.y -= 1;
    this.touch();
  }

  scrollUp() { this.take(this.top, this.bottom, this.top === 0); }
  scrollDown() { this.take(this.bottom, this.top, false); }
  insertLines(n) { for (let i = 0; i < Math.min(n, this.rows); i++) if (this.isInRegion()) this.take(this.bottom, this.y, false); }
  deleteLines(n) { for (let i = 0; i < Math.min(n, this.rows); i++) if (this.isInRegion()) this.take(this.y, this.bottom, false); }
  isInRegion() { return this.y >= this.top && this.y <= this.bottom; }

  /** Take one line out and put an empty one in; `isKept`: the one taken out stays above, as history. */
  take(from, to, isKept) {
    const [gone] = this.lines.splice(from, 1);
    if (isKept) this.remember(gone); else gone.element.remove();
    const line = this.newLine();
    this.lines.splice(to, 0, line);
    this.element.insertBefore(line.element, this.lines[to + 1]?.element ?? null);
    this.touch();
  }

  clear() { this.setRegion(0, this.rows - 1); this.top = 0; this.bottom = this.rows - 1; this.moveTo(0, 0); this.eraseScreen(2, PLAIN); }

  erase(line, from, to, pen) {
    for (let x = from; x < Math.min(to, this.columns); x++) line.cells[x] = this.blank(pen);
    line.isDirty = true;
  }

  eraseLine(which, pen) {
    const x = Math.min(this.x, this.columns - 1);
    this.erase(this.lines[this.y], which === 0 ? x : 0, which === 1 ? x + 1 : this.columns, pen);
  }

  eraseScreen(which, pen) {
    if (which < 2) this.eraseLine(which, pen);
    this.lines.forEach((line, y) => {
      if (which >= 2 || (which === 0 && y > this.y) || (which === 1 && y < this.y)) this.erase(line, 0, this.columns, pen);
    });
  }

  eraseLetters(n, pen) { this.erase(this.lines[this.y], this.x, this.x + n, pen); }
  deleteLetters(n, pen) {
    const line = this.lines[this.y];
    line.cells.splice(this.x, n);
    while (line.cells.length < this.columns) line.cells.push(this.blank(pen));
    line.isDirty = true;
  }

  insertLetters(n, pen) {
    const line = this.lines[this.y];
    line.cells.splice(this.x, 0, ...Array.from({ length: Math.min(n, this.columns) }, () => this.blank(pen)));
    line.cells.length = this.columns;
    line.isDirty = true;
  }

  render(showsCursor) {
    this.lines.forEach((line, y) => { if (line.isDirty) this.renderLine(line, showsCursor && y === this.y ? Math.min(this.x, this.columns - 1) : -1); });
  }

  renderLine(line, cursor) {
    line.isDirty = false;
    const spans = [];
    let text = "", pen = null, isCursor = false;
    const flush = () => { if (text) spans.push(span(text, pen, isCursor)); text = ""; };
    line.cells.forEach((cell, x) => {
      if (cell.pen !== pen || x === cursor || isCursor) { flush(); pen = cell.pen; isCursor = x === cursor; }
      text += cell.letter;
    });
    flush();
    line.element.replaceChildren(...spans);
  }
}

function span(text, pen, isCursor) {
  const names = ["bold", "dim", "italic", "underline"].filter((name) => pen[name]);
  const made = make("span", [...names, ...(isCursor ? ["cursor"] : [])].join(" "), text);
  const [fg, bg] = pen.inverse ? [pen.bg ?? "#101418", pen.fg ?? "#d8dee6"] : [pen.fg, pen.bg];
  if (fg && !isCursor) made.style.color = fg;
  if (bg && !isCursor) made.style.background = bg;
  return made;
}
