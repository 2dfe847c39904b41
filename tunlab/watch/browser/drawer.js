// The lower part of the page: tables of places, read again while one looks, and shells.

import { ask, inOrder } from "./link.js";
import { make } from "./boxes.js";
import { Terminal } from "./terminal.js";

const READ_AGAIN_MS = 2000;

export class Drawer {
  constructor(element) {
    this.element = element;
    this.tabs = element.querySelector("#tabs");
    this.sheets = element.querySelector("#sheets");
    this.open = new Map(); // key -> {tab, sheet, shown, closed}
    this.shells = new Map(); // the server's number -> terminal
    this.early = new Map(); // what a shell said before we were told its number
    this.pending = 0; // shells whose number we wait for
    this.count = 0;
    setInterval(() => this.readAgain(), READ_AGAIN_MS);
    addEventListener("resize", () => this.current()?.shown?.());
  }

  /** The tables of a place, and a button for a shell there. */
  showPlace(place) {
    const key = `tables ${place}`;
    if (!this.open.has(key)) {
      const sheet = make("div", "sheet");
      const button = make("button", "shell-button", `shell on ${place}`);
      button.addEventListener("click", () => this.openShell(place));
      const tables = make("div", "tables");
      sheet.append(button, tables);
      this.add(key, place, sheet, { read: () => readTables(place, tables) });
    }
    this.choose(key);
    this.readAgain();
  }

  /** A shell of its own in a place. */
  async openShell(place) {
    const sheet = make("div", "sheet shell");
    const key = `shell ${place} ${performance.now()}`;
    this.add(key, `shell ${place}`, sheet, {});
    this.choose(key);
    const terminal = new Terminal(sheet, `shell on ${place}`);
    const entry = this.open.get(key);
    this.pending += 1;
    try {
      const { shell } = await ask("shell", { place, ...terminal.size() });
      if (!this.open.has(key)) { // its tab was closed meanwhile
        ask("close", { shell }).catch(() => {});
        return;
      }
      const type = inOrder((text) => ask("type", { shell, data: encode(text) }));
      terminal.onInput = type;
      terminal.onResize = (size) => ask("resize", { shell, ...size }).catch(() => {});
      entry.shown = () => { terminal.fit(); terminal.focus(); };
      entry.closed = () => { this.shells.delete(shell); ask("close", { shell }).catch(() => {}); };
      this.shells.set(shell, terminal);
      for (const event of this.early.get(shell) ?? []) this.hear(event);
      this.early.delete(shell);
      terminal.focus();
    } catch (error) {
      terminal.write(encoder.encode(`${error.message}\r\n`));
    } finally {
      this.pending -= 1;
      if (this.pending === 0) this.early.clear();
    }
  }

  /** What a shell has said, or that it has ended. */
  hear(event) {
    const terminal = this.shells.get(event.shell);
    if (!terminal) {
      if (this.pending) this.early.set(event.shell, [...(this.early.get(event.shell) ?? []), event]);
    } else if (event.kind === "shell") {
      terminal.write(decode(event.data));
    } else {
      terminal.onInput = () => {};
      terminal.write(encoder.encode(`\r\n[this shell has ended${event.why ? `: ${event.why}` : ""}]\r\n`));
    }
  }

  // ---------------------------------------------------------------- inner workings
  add(key, title, sheet, entry) {
    const choose = make("button", "", title), close = make("button", "close", "×");
    this.count += 1;
    choose.id = `tab${this.count}`;
    sheet.id = `sheet${this.count}`;
    choose.setAttribute("role", "tab");
    choose.setAttribute("aria-controls", sheet.id);
    sheet.setAttribute("role", "tabpanel");
    sheet.setAttribute("aria-labelledby", choose.id);
    close.setAttribute("aria-label", `close ${title}`);
    const tab = make("span", "", choose, close);
    choose.addEventListener("click", () => this.choose(key));
    close.addEventListener("click", () => this.close(key));
    this.tabs.append(tab);
    this.sheets.append(sheet);
    this.open.set(key, { ...entry, tab, sheet });
    this.element.hidden = false;
  }

  choose(key) {
    this.chosen = key;
    for (const [each, { tab, sheet }] of this.open) {
      tab.classList.toggle("open", each === key);
      tab.firstChild.setAttribute("aria-selected", each === key);
      sheet.hidden = each !== key;
    }
    this.current()?.shown?.();
  }

  close(key) {
    const { tab, sheet, closed } = this.open.get(key);
    this.open.delete(key);
    tab.remove();
    sheet.remove();
    closed?.();
    if (this.chosen === key) this.choose([...this.open.keys()].at(-1));
    this.element.hidden = this.open.size === 0;
  }

  current() {
    return this.open.get(this.chosen);
  }

  async readAgain() {
    const entry = this.current();
    if (!entry?.read || entry.isReading || document.hidden) return;
    entry.isReading = true;
    try { await entry.read(); } finally { entry.isReading = false; }
  }
}

async function readTables(place, element) {
  let tables;
  try {
    ({ tables } = await ask("tables", { place }));
  } catch (error) {
    element.replaceChildren(make("p", "", error.message));
    return;
  }
  const before = element.known ?? new Map();
  element.known = new Map(tables.map((table) => [table.title, new Set(table.text.split("\n"))]));
  element.replaceChildren(...tables.map((table) => {
    const known = before.get(table.title);
    const lines = table.text.split("\n").map((line) => {
      const isFresh = known && line && !known.has(line);
      return make("span", isFresh ? "fresh" : "", `${line}\n`);
    });
    const text = make("pre", "", ...(table.text ? lines : ["(empty)"]));
    return make("section", "", make("h3", "", table.title, make("code", "", table.command)), text);
  }));
}

const encoder = new TextEncoder();

function encode(text) {
  return btoa(String.fromCharCode(...encoder.encode(text)));
}

function decode(data) {
  return Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
}
