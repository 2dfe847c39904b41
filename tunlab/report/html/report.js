"use strict";
// What the page does beside being read: it filters, follows deep links, and lets arrows move in the matrix.
(() => {
  const all = (selector, from = document) => [...from.querySelectorAll(selector)];
  const form = document.getElementById("choose"), box = document.getElementById("filter");
  const count = document.getElementById("count"), grid = document.getElementById("grid");
  const rows = all("[data-v]").map((element) => {
    const about = element.closest(".requirement");
    const title = about.querySelector("h3").textContent + " " + about.querySelector(".note").textContent;
    const text = `${element.id} ${element.dataset.v.replace("_", " ")} ${title}`.toLowerCase();
    return { element, about, text, verdict: element.dataset.v };
  });
  const cells = new Map(all("td a", grid).map((link) => [target(link.hash), link.parentElement]));

  function target(hash) {
    try { return decodeURIComponent(hash.slice(1)); } catch { return hash.slice(1); }
  }

  function choose() {
    const words = box.value.toLowerCase().split(/\s+/).filter(Boolean);
    const verdicts = new Set(all("input:checked", form).map((input) => input.value));
    const shown = new Set();
    let number = 0;
    for (const { element, about, text, verdict } of rows) {
      const fits = verdicts.has(verdict) && words.every((word) => text.includes(word));
      element.hidden = !fits;
      const cell = cells.get(element.id);
      if (cell) cell.firstElementChild.hidden = !fits;
      if (fits) { number += 1; shown.add(about.id); }
    }
    for (const about of all(".requirement")) about.hidden = !shown.has(about.id);
    for (const line of all("tbody tr", grid)) line.hidden = !shown.has(target(line.querySelector("th a").hash));
    count.textContent = `${number} of ${rows.length} rows`;
    const first = links()[0];
    if (first && !links().some((link) => link.tabIndex === 0)) first.tabIndex = 0;
  }

  function links(from = grid) {
    return all("td a", from).filter((link) => !link.hidden && !link.closest("tr").hidden);
  }

  function arrive() {
    const wanted = location.hash && document.getElementById(target(location.hash));
    if (!wanted) return;
    if (wanted.closest("[hidden]") || wanted.hidden) { form.reset(); choose(); }
    for (let at = wanted; at; at = at.parentElement) if (at.tagName === "DETAILS") at.open = true;
    for (const inside of all("details", wanted).slice(0, 1)) inside.open = true;
    wanted.scrollIntoView();
    if (wanted.hasAttribute("tabindex")) wanted.focus({ preventScroll: true });
  }

  function move(event) {
    const here = event.target.closest("td a");
    if (!here) return;
    const line = here.closest("tr"), cell = here.parentElement.cellIndex;
    const lines = all("tbody tr", grid).filter((each) => !each.hidden);
    const across = links(line), at = across.indexOf(here), row = lines.indexOf(line);
    const below = (some) => some.map((each) => each.cells[cell] && each.cells[cell].querySelector("a:not([hidden])")).find(Boolean);
    const next = {
      ArrowRight: () => across[at + 1], ArrowLeft: () => across[at - 1],
      ArrowDown: () => below(lines.slice(row + 1)), ArrowUp: () => below(lines.slice(0, row).reverse()),
      Home: () => event.ctrlKey ? links()[0] : across[0],
      End: () => event.ctrlKey ? links().pop() : across[across.length - 1],
    }[event.key];
    if (!next) return;
    event.preventDefault();
    const link = next();
    if (!link) return;
    for (const each of all('td a[tabindex="0"]', grid)) each.tabIndex = -1;
    link.tabIndex = 0;
    link.focus();
  }

  form.hidden = false;
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("input", choose);
  grid.addEventListener("keydown", move);
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") { form.reset(); choose(); }
    if (event.key === "/" && !event.ctrlKey && !/INPUT|TEXTAREA/.test(event.target.tagName)) { event.preventDefault(); box.focus(); }
  });
  addEventListener("hashchange", arrive);
  choose();
  arrive();
})();
