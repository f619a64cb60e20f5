// Elements and text. Whatever comes from elsewhere becomes a text node, never markup.

/**
 * h makes an element. Props beginning with "on" are listeners, all others attributes; false and null leave one out. Children are nodes or text.
 * @param {string} tag
 * @param {Record<string, any>} [props]
 * @param {...any} children
 */
export function h(tag, props = {}, ...children) {
  const el = document.createElement(tag);
  for (const [key, value] of Object.entries(props)) {
    if (value === false || value === null || value === undefined) continue;
    if (key.startsWith("on")) el.addEventListener(key.slice(2), value);
    else el.setAttribute(key, value === true ? "" : value);
  }
  el.append(...children.flat().filter((c) => c !== null && c !== undefined && c !== false));
  return el;
}

/** text sets the text of an element, if it is another. */
export function text(el, s) {
  if (el.textContent !== s) el.textContent = s;
}

/** set sets or removes an attribute, if it is another. */
export function set(el, name, value) {
  if (value === null || value === false) {
    if (el.hasAttribute(name)) el.removeAttribute(name);
  } else if (el.getAttribute(name) !== String(value)) el.setAttribute(name, value);
}

// What would change the direction of the text around it, or hide.
const invisible = /[\u0000-\u001f\u007f-\u009f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]/g;

/** plain makes characters visible that would hide or turn text around. */
export function plain(s) {
  return String(s).replace(invisible, (c) => "\\u" + c.charCodeAt(0).toString(16).padStart(4, "0"));
}

// titled is the name of a transfer as people see it: a directory has a slash behind it.
export function titled(r) {
  return r.directory ? r.name + "/" : r.name;
}

/** say tells those who hear the page of a change of state. */
export function say(s) {
  document.getElementById("said").textContent = s;
}

/** toast shows a line for some seconds, with a button perhaps. It returns what takes it away. */
export function toast(s, button, seconds = 8) {
  const el = h("div", { class: "toast" }, h("span", {}, s));
  const end = () => el.remove();
  if (button) el.append(h("button", { type: "button", onclick: () => { end(); button.do(); } }, button.label));
  el.append(h("button", { type: "button", class: "quiet", "aria-label": "Dismiss", onclick: end }, "×"));
  document.getElementById("toasts").append(el);
  setTimeout(end, seconds * 1000);
  return end;
}

/** copyButton copies text; where that is not allowed, it selects it. */
export function copyButton(source) {
  return h("button", {
    type: "button",
    onclick: async (e) => {
      const button = e.currentTarget;
      try {
        await navigator.clipboard.writeText(source.textContent);
        text(button, "Copied");
      } catch {
        getSelection().selectAllChildren(source);
        text(button, "Selected");
      }
      setTimeout(() => text(button, "Copy"), 2000);
    },
  }, "Copy");
}

/** failure shows an error as the command line does: what, cause, next. */
export function failure(f) {
  const line = (label, s) => s ? [h("dt", {}, label), h("dd", {}, plain(s))] : [];
  const all = [f.code, f.what, f.cause, f.next].filter(Boolean).join("\n");
  const hidden = h("span", { hidden: true }, all);
  const card = h("div", { class: "failure" },
    h("p", {}, h("strong", {}, plain(f.what || "it did not work"))),
    h("dl", {}, line("cause", f.cause), line("next", f.next)),
    h("p", { class: "row" }, h("code", {}, f.code || "E-INTERNAL"), hidden, copyButton(hidden)));
  return card;
}
