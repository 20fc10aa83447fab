/*
 * view.js - the list on the page: one <li> for each item, kept as long as the item lives
 *
 * So focus, selection and a title being edited survive what others change.
 */
export class ListView {
  #list;
  #template;
  #actions;
  #rows = new Map(); // id -> {li, ...}
  #filled = false;

  /* actions: toggle(id), rename(id, title), remove(id), nothingLeft() when focus has nowhere to go */
  constructor(list, template, actions) {
    this.#list = list;
    this.#template = template;
    this.#actions = actions;
  }

  render(items) {
    this.#dropGone(new Set(items.map((item) => item.id)));
    items.forEach((item, at) => {
      const row = this.#rows.get(item.id) ?? this.#newRow(item.id);

      row.show(item);
      if (this.#list.children[at] !== row.li) this.#list.insertBefore(row.li, this.#list.children[at] ?? null);
    });
    this.#filled = true;
  }

  #dropGone(present) {
    for (const [id, row] of this.#rows) {
      if (present.has(id)) continue;
      const next = row.li.nextElementSibling ?? row.li.previousElementSibling;
      const hadFocus = row.li.contains(document.activeElement);

      row.li.remove();
      this.#rows.delete(id);
      if (!hadFocus) continue;
      if (next) next.querySelector("input").focus();
      else this.#actions.nothingLeft();
    }
  }

  #newRow(id) {
    const row = new Row(id, this.#template.content.firstElementChild.cloneNode(true), this.#actions);

    if (this.#filled) row.li.classList.add("new");
    this.#rows.set(id, row);
    return row;
  }
}

class Row {
  #item = {};
  #before; // the title when editing began
  #check;
  #title;
  #edit;

  constructor(id, li, actions) {
    this.li = li;
    this.#check = li.querySelector("input[type=checkbox]");
    this.#title = li.querySelector(".title");
    this.#edit = li.querySelector(".edit");

    this.#check.addEventListener("click", (event) => {
      event.preventDefault(); // it is checked when the server says so
      actions.toggle(id);
    });
    li.querySelector(".remove").addEventListener("click", () => actions.remove(id));
    li.querySelector(".rename").addEventListener("click", () => this.#beginEdit());
    this.#title.addEventListener("dblclick", () => this.#beginEdit());
    this.#edit.addEventListener("keydown", (event) => {
      if (event.isComposing || (event.key !== "Escape" && event.key !== "Enter")) return;
      event.preventDefault(); // the button that gets the focus is not to be pressed by it
      if (event.key === "Escape") this.#endEdit();
      else this.#commitEdit(actions, id);
    });
    this.#edit.addEventListener("blur", () => this.#commitEdit(actions, id, false));
  }

  show(item) {
    const { title, done } = item;

    this.#item = item;
    this.#check.checked = done;
    this.#title.textContent = title;
    this.li.classList.toggle("done", done);
    this.#edit.setAttribute("aria-label", `New title of ${title}`);
    for (const [what, verb] of [[".rename", "Rename"], [".remove", "Remove"]])
      this.li.querySelector(what).setAttribute("aria-label", `${verb} ${title}`);
  }

  #beginEdit() {
    this.li.classList.add("editing");
    this.#edit.hidden = false;
    this.#edit.value = this.#before = this.#item.title;
    this.#edit.focus();
    this.#edit.select();
  }

  #endEdit(keepFocus = true) {
    if (this.#edit.hidden) return;
    this.li.classList.remove("editing");
    if (keepFocus) this.li.querySelector(".rename").focus();
    this.#edit.hidden = true;
  }

  #commitEdit(actions, id, keepFocus) {
    if (!this.li.classList.contains("editing")) return;
    const title = this.#edit.value.trim();

    this.#endEdit(keepFocus);
    if (title && title !== this.#before) actions.rename(id, title);
  }
}
