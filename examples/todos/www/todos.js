/*
 * todos.js - the page: one channel, its state shown, what is typed and clicked pushed
 *
 * The page keeps nothing of its own: it shows what the server says, also of its own changes.  The list is
 * named by the address: /#groceries is the topic todos:groceries.
 */
import { connect } from "/seance.js";
import { ListView } from "./view.js";

const $ = (id) => document.getElementById(id);
const STATUS = { joined: "Connected", joining: "Connecting", refused: "Refused", lost: "Connecting", left: "Disconnected" };

const name = decodeURIComponent(location.hash.slice(1)) || "home";
const socket = connect("/socket");
const list = socket.channel(`todos:${name}`);

/* push - sends an event and says it when it cannot be done; gives whether it was */
async function push(event, payload) {
  notice(list.status === "joined" ? "" : "Not connected just now. It is done when the list is back.");
  try {
    await list.push(event, payload);
    notice("");
    return true;
  } catch (error) {
    notice(error.name === "Refused" ? `Not possible: ${error.message}.` : `It went wrong: ${error.message}.`);
    return false;
  }
}

const view = new ListView($("list"), $("item"), {
  toggle: (id) => push("toggle", { id }),
  rename: (id, title) => push("rename", { id, title }),
  remove: (id) => push("remove", { id }),
  nothingLeft: () => $("title").focus(),
});

list.onchange = ({ todos }, version) => {
  const done = todos.filter((item) => item.done).length;

  view.render(todos);
  $("summary").textContent = todos.length ? `${todos.length - done} to do, ${done} done` : "";
  $("progress").style.transform = `scaleX(${todos.length ? done / todos.length : 0})`;
  $("empty").hidden = todos.length > 0;
  $("clear").hidden = done === 0;
  $("version").textContent = ` Version ${version}.`;
};

function showStatus() {
  const broken = socket.status !== "open" && list.state !== undefined;

  document.body.dataset.status = list.status === "joined" ? "connected" : broken ? "disconnected" : "connecting";
  $("status").textContent = broken ? "Disconnected" : STATUS[list.status];
}
socket.onstatus = list.onstatus = showStatus;

function notice(text) {
  $("notice").textContent = text;
}

$("add").addEventListener("submit", async (event) => {
  const title = $("title").value.trim();

  event.preventDefault();
  if (title && (await push("add", { title })) && $("title").value.trim() === title) $("title").value = "";
});
$("clear").addEventListener("click", () => {
  $("title").focus();
  push("clear");
});
addEventListener("hashchange", () => location.reload());

$("list-name").textContent = name;
document.title = `Things to do · ${name}`;
