// What the page asks: what to share, what to get, whether to remove.

import { h, text, plain, failure } from "./dom.js";
import { size, many, duration } from "./format.js";
import { ask } from "./api.js";

/** dialog opens a modal dialog, which Escape closes, and which leaves nothing behind. */
function dialog(title, ...content) {
  const head = h("h2", { id: "dialog-title" }, title);
  const d = h("dialog", { "aria-labelledby": "dialog-title" },
    h("div", { class: "row" }, head, h("span", { class: "space" }), h("button", { type: "button", class: "quiet", "aria-label": "Close", onclick: () => d.close() }, "×")),
    ...content);
  d.addEventListener("close", () => d.remove());
  document.body.append(d);
  d.showModal();
  return d;
}

/** busy sends a form: its button waits, and an error is shown in it. */
function sending(form, place, send) {
  form.addEventListener("submit", async (e) => {
    e.preventDefault();
    const button = form.querySelector("button[type=submit]");
    button.disabled = true;
    place.replaceChildren();
    try {
      await send();
    } catch (f) {
      place.replaceChildren(failure(f));
    } finally {
      button.disabled = false;
    }
  });
}

/** browser shows folders below the roots; choose is called with each that is opened, pick with a file. */
function browser(choose, pick) {
  const path = h("p", { class: "path" }), items = h("ul", { class: "files" });
  const el = h("div", { class: "browser" }, path, items);
  const open = async (at) => {
    let f;
    try {
      f = await ask("GET", "/folders" + (at ? "?path=" + encodeURIComponent(at) : ""));
      if (!at && f.entries.length === 1) f = await ask("GET", "/folders?path=" + encodeURIComponent(f.entries[0].path));
    } catch (error) {
      items.replaceChildren(h("li", {}, failure(error)));
      return;
    }
    text(path, f.path ? plain(f.path) : "Folders that this page may use");
    choose(f.path);
    const rows = [];
    if (f.path && f.up) rows.push(h("li", {}, h("button", { type: "button", class: "entry", onclick: () => open(f.up) }, "↰ folder above")));
    for (const e of f.entries) {
      if (!e.folder && !pick) continue;
      rows.push(h("li", {}, h("button", { type: "button", class: "entry", onclick: () => e.folder ? open(e.path) : pick(e.path) },
        h("span", { "aria-hidden": "true" }, e.folder ? "▸ " : "  "), h("bdi", {}, plain(e.name)), h("span", { class: "num" }, e.folder ? "folder" : size(e.size)))));
    }
    if (rows.length === 0) rows.push(h("li", { class: "none" }, pick ? "There is nothing here." : "There are no folders in it."));
    if (f.more) rows.push(h("li", { class: "none" }, "There is more than is shown: type the path."));
    items.replaceChildren(...rows);
  };
  el.open = open;
  return el;
}

// swarmChoice is a field for the swarm, where there is a choice.
function swarmChoice(swarms) {
  if (swarms.length < 2) return { el: null, value: () => swarms[0]?.id || "" };
  const select = h("select", {}, swarms.map((s) => h("option", { value: s.id }, s.id.slice(0, 8) + " (" + s.servers.join(", ") + ")")));
  return { el: h("label", {}, "Swarm", select), value: () => select.value, select };
}

/** share asks for a path. */
export function share(swarms, done, hint) {
  const input = h("input", { type: "text", required: true, autocomplete: "off", spellcheck: "false", autofocus: true });
  const place = h("div"), swarm = swarmChoice(swarms);
  const files = browser(() => {}, (path) => { input.value = path; input.focus(); });
  const form = h("form", {},
    h("label", {}, "Path of a file on this machine", input), swarm.el, files, place,
    h("p", { class: "row end" }, h("button", { type: "submit", class: "first" }, "Share")));
  const d = dialog("Share a file", h("p", { class: "summary" }, hint || "It is shared from where it lies, and not copied."), form);
  sending(form, place, async () => {
    const row = await ask("POST", "/shares", { path: input.value.trim(), swarm: swarm.value() });
    d.close();
    done(row);
  });
  files.open("");
}

/** get asks for a link, a name or an id, or for a file of the swarm; and where to put it. */
export function get(swarms, done, what) {
  const input = h("input", { type: "text", required: true, autocomplete: "off", spellcheck: "false", autofocus: true });
  input.value = what || "";
  const dir = h("input", { type: "text", required: true, autocomplete: "off", spellcheck: "false" });
  dir.value = localStorage.getItem("dir") || "";
  const overwrite = h("input", { type: "checkbox" });
  const place = h("div"), swarm = swarmChoice(swarms), list = h("ul", { class: "files" }, h("li", { class: "none" }, "Asking the swarm…"));
  const folders = browser((path) => { if (path && (folders.asked || !dir.value)) dir.value = path; folders.asked = true; }, null);
  const choose = h("details", {}, h("summary", {}, "Choose the folder"), folders);
  const form = h("form", {},
    h("label", {}, "Link, name or id", input), swarm.el,
    h("fieldset", {}, h("legend", {}, "In the swarm"), list),
    h("label", {}, "Into the folder", dir), choose,
    h("label", { class: "check" }, overwrite, "Replace a file of that name"), place,
    h("p", { class: "row end" }, h("button", { type: "submit", class: "first" }, "Get")));
  const d = dialog("Get a file", form);
  let chosen = null;
  input.addEventListener("input", () => { chosen = null; });
  const show = async () => {
    if (!swarm.value()) {
      list.replaceChildren(h("li", { class: "none" }, "This machine is in no swarm yet: paste a link that somebody has sent you."));
      return;
    }
    try {
      const { files, total } = await ask("GET", "/swarms/" + swarm.value() + "/files?limit=500");
      const rows = files.map((f) => h("li", {}, h("button", { type: "button", class: "entry", onclick: () => { chosen = f; input.value = f.name; input.focus(); } },
        h("bdi", {}, plain(f.name)), h("span", { class: "num" }, size(f.size) + ", " + many(f.holders, "holder") + ", " + duration(f.age) + " old"))));
      if (total > files.length) rows.push(h("li", { class: "none" }, "and " + (total - files.length) + " more: type the name"));
      list.replaceChildren(...rows.length ? rows : [h("li", { class: "none" }, "Nobody shares anything yet.")]);
    } catch (f) {
      list.replaceChildren(h("li", {}, failure(f)));
    }
  };
  swarm.select?.addEventListener("change", show);
  sending(form, place, async () => {
    const req = { what: input.value.trim(), dir: dir.value.trim(), wait: true, overwrite: overwrite.checked };
    if (!req.what.startsWith("shoal://")) req.swarm = swarm.value();
    if (chosen) req.content = chosen.id;
    const row = await ask("POST", "/downloads", req);
    localStorage.setItem("dir", req.dir);
    d.close();
    done(row);
  });
  show();
  folders.open(dir.value);
}

/** remove asks what is to become of what a download has written. */
export function remove(r, keep, discard) {
  const place = h("div");
  const d = dialog("Remove from the list",
    h("p", {}, h("bdi", {}, plain(r.name)), r.state === "complete" ? " is complete." : " is not complete."), place,
    h("p", { class: "row end" },
      h("button", { type: "button", class: "danger", onclick: async () => {
        try {
          await discard();
          d.close();
        } catch (f) {
          place.replaceChildren(failure(f));
        }
      } }, "Remove, and delete the data"),
      h("button", { type: "button", class: "first", autofocus: true, onclick: () => { d.close(); keep(); } }, "Remove, and keep the data")));
}

/** help shows the keys. */
export function help(version) {
  const keys = [["/", "search"], ["j  k", "next, previous"], ["Enter", "details"], ["g", "get a file"], ["s", "share a file"], ["p", "pause, resume"],
    ["x", "remove"], ["Esc", "close"], ["?", "this"]];
  dialog("Keys", h("table", { class: "keys" }, h("tbody", {}, keys.map(([k, s]) => h("tr", {}, h("th", { scope: "row" }, h("kbd", {}, k)), h("td", {}, s))))),
    h("p", { class: "summary" }, "A link that is pasted anywhere opens “Get a file”. All that this page does, the commands of shoal do as well. shoal " + version));
}
