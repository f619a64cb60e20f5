// The table of transfers. Rows are kept and changed in place, so that focus and selection stay; at most some hundred are made, however
// long the list is.

import { h, text, set, plain, titled } from "./dom.js";
import { size, rate, duration, percent, count } from "./format.js";

const step = 200;

const marks = {
  hashing: "◌", seeding: "↑", waiting: "…", downloading: "↓", paused: "‖", complete: "✓", failed: "✕", changed: "!",
};

const columns = [
  { key: "name", label: "Name", of: (r) => r.name.toLowerCase() },
  { key: "size", label: "Size", of: (r) => r.size },
  { key: "done", label: "Progress", of: (r) => part(r) },
  { key: "rate", label: "Rate", of: (r) => r.down + r.up },
  { key: "eta", label: "Left", of: (r) => r.eta || Infinity },
  { key: "peers", label: "Peers", of: (r) => r.peers },
  { key: "state", label: "State", of: (r) => r.state },
];

/** part is how many percent of a transfer are here; of one that is hashed, how many are read. */
export function part(r) {
  return percent(r.state === "hashing" ? r.checked || 0 : r.done, r.size);
}

/** stateText is what a transfer does, in a word and a sign. */
export function stateText(r) {
  if (r.disk_full) return "! disk full, waits";
  return (marks[r.state] || "") + " " + r.state;
}

/** mayPause says whether pausing a transfer makes sense. */
export const mayPause = (r) => !r.paused && r.state !== "failed" && r.state !== "changed";

export class List {
  /** @param {{pause: (r: any) => void, resume: (r: any) => void, remove: (r: any) => void}} act */
  constructor(act) {
    this.act = act;
    this.rows = new Map(); // id -> elements
    this.most = step;
    this.sort = { key: "", up: true };
    this.filter = "";
    this.body = h("tbody");
    this.heads = columns.map((c) => h("th", { scope: "col", class: "of-" + c.key },
      h("button", { type: "button", class: "sort", onclick: () => this.sortBy(c.key) }, c.label)));
    this.table = h("table", { class: "list" },
      h("caption", { class: "unseen" }, "Transfers"),
      h("thead", {}, h("tr", {}, this.heads, h("th", { scope: "col", class: "of-act" }, h("span", { class: "unseen" }, "Actions")))), this.body);
    this.none = h("p", { class: "none", hidden: true }, "No transfer has that in its name.");
    this.more = h("button", { type: "button", class: "more", hidden: true, onclick: () => { this.most += step; this.render(this.all, this.open); } });
    this.el = h("div", { class: "listbox" }, this.table, this.none, this.more);
    this.all = [];
  }

  sortBy(key) {
    this.sort = { key, up: this.sort.key === key ? !this.sort.up : true };
    this.heads.forEach((th, i) => set(th, "aria-sort", columns[i].key === key ? (this.sort.up ? "ascending" : "descending") : null));
    this.render(this.all, this.open);
  }

  // shown is what of the list fits the filter, in order.
  shown() {
    const want = this.filter.toLowerCase();
    const out = want ? this.all.filter((r) => r.name.toLowerCase().includes(want)) : this.all.slice();
    const column = columns.find((c) => c.key === this.sort.key);
    if (column) {
      const sign = this.sort.up ? 1 : -1;
      out.sort((a, b) => {
        const x = column.of(a), y = column.of(b);
        return x < y ? -sign : x > y ? sign : 0;
      });
    }
    return out;
  }

  /** render shows transfers; open is the id of the one whose details are shown. */
  render(all, open) {
    this.all = all;
    this.open = open;
    const shown = this.shown(), rows = shown.slice(0, this.most), keep = new Set(rows.map((r) => r.id));
    for (const [id, row] of this.rows) {
      if (!keep.has(id)) {
        row.tr.remove();
        this.rows.delete(id);
      }
    }
    let at = this.body.firstElementChild;
    for (const r of rows) {
      let row = this.rows.get(r.id);
      if (!row) this.rows.set(r.id, row = this.make(r.id));
      if (row.r !== r) this.fill(row, r);
      set(row.tr, "class", r.id === open ? "open" : null);
      set(row.name, "aria-current", r.id === open ? "true" : null);
      if (row.tr === at) at = at.nextElementSibling;
      else this.body.insertBefore(row.tr, at);
    }
    this.none.hidden = rows.length > 0 || !this.filter;
    this.table.hidden = rows.length === 0;
    this.more.hidden = shown.length <= rows.length;
    text(this.more, "Show " + count(Math.min(step, shown.length - rows.length)) + " more of " + count(shown.length - rows.length));
  }

  make(id) {
    const row = { id, r: null };
    row.text = h("bdi");
    row.name = h("a", { href: "#/t/" + id }, row.text);
    row.bar = h("progress", { max: 100 });
    row.percent = h("span", { class: "num" });
    row.cells = columns.map((c) => h("td", { class: "of-" + c.key }));
    row.cells[0].append(row.name);
    row.cells[2].append(row.bar, row.percent);
    row.pause = h("button", { type: "button", onclick: () => row.r.paused || !mayPause(row.r) ? this.act.resume(row.r) : this.act.pause(row.r) });
    row.remove = h("button", { type: "button", onclick: () => this.act.remove(row.r) }, "Remove");
    row.tr = h("tr", { "data-id": id }, row.cells, h("td", { class: "of-act" }, row.pause, row.remove));
    row.tr.addEventListener("click", (e) => {
      if (!e.target.closest("a, button")) location.hash = "#/t/" + id;
    });
    return row;
  }

  fill(row, r) {
    row.r = r;
    const name = plain(titled(r)), p = part(r);
    text(row.text, name);
    set(row.name, "title", name);
    text(row.cells[1], r.size > 0 ? size(r.size) : "–");
    if (row.bar.value !== p) row.bar.value = p;
    set(row.bar, "aria-label", name + ": " + (r.state === "hashing" ? "read" : "here"));
    text(row.percent, p + " %");
    text(row.cells[3], [r.down > 0 && "↓ " + rate(r.down), r.up > 0 && "↑ " + rate(r.up)].filter(Boolean).join("  ") || "–");
    text(row.cells[4], r.eta > 0 ? duration(r.eta) : "–");
    text(row.cells[5], r.peers > 0 ? count(r.peers) : "–");
    text(row.cells[6], stateText(r));
    set(row.cells[6], "data-state", r.state);
    const pauses = !r.paused && mayPause(r);
    text(row.pause, pauses ? "Pause" : "Resume");
    set(row.pause, "aria-label", (pauses ? "Pause " : "Resume ") + name);
    set(row.remove, "aria-label", "Remove " + name);
    row.remove.hidden = Boolean(r.folder); // its folder decides
  }

  /** step moves the focus by rows, and returns the transfer that has it then. */
  step(by) {
    const links = [...this.body.querySelectorAll(".of-name a")];
    if (links.length === 0) return;
    const at = links.findIndex((a) => a.closest("tr").contains(document.activeElement));
    links[Math.max(0, Math.min(links.length - 1, at < 0 ? (by > 0 ? 0 : links.length - 1) : at + by))].focus();
  }

  /** current is the transfer that has the focus, or whose details are shown. */
  current() {
    const tr = document.activeElement?.closest("tr[data-id]");
    return this.all.find((r) => r.id === (tr ? tr.dataset.id : this.open));
  }
}
