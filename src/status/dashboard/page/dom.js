// Elements: created once, and changed only when their text changes.

/** The element with this id. */
export const byId = (id) => document.getElementById(id);

/** An element with properties and children; texts become text nodes. */
export function element(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name in made && typeof value !== "string") made[name] = value;
    else made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}

/** Sets a text and returns whether it changed. */
export function setText(of, text) {
  if (of.textContent === text) return false;
  of.textContent = text;
  return true;
}

/** Shows or hides. */
export function show(of, shown) {
  if (of.hidden === shown) of.hidden = !shown;
}

/** A definition list of (word, value, title): its entries remain, their values change. */
export function facts(list, entries) {
  if (list.childElementCount !== entries.length) {
    list.replaceChildren(...entries.map(() => element("div", {}, element("dt"), element("dd"))));
  }
  entries.forEach(([word, value], at) => {
    const [dt, dd] = list.children[at].children;
    setText(dt, word);
    setText(dd, value);
  });
}
