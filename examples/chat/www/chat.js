/*
 * chat.js - the page: who is there, what was said, who is typing; /#name is the topic chat:name
 */
import { connect } from "/seance.js";

const TYPING_EVERY_MS = 1500; // the server's sign lasts 3 s

const $ = (id) => document.getElementById(id);
const notice = (error) => ($("notice").textContent = error?.message ?? "");
const topic = `chat:${decodeURIComponent(location.hash.slice(1)) || "lobby"}`;

function line({ who, text }) {
  const item = document.createElement("li");
  const name = document.createElement("b");
  name.textContent = who;
  item.append(name, text);
  return item;
}

function enter(name) {
  const chat = connect("/socket").channel(topic, { name });
  let typed = 0;

  chat.onstatus = (status, reason) => {
    document.body.dataset.status = status;
    $("enter").hidden = status === "joined" || !$("room").hidden;
    $("room").hidden = $("room").hidden && status !== "joined";
    if (status === "refused") {
      chat.leave();
      notice(reason);
    }
  };
  chat.onchange = ({ lines, typing }) => {
    const others = Object.keys(typing).filter((who) => who !== name);
    $("lines").replaceChildren(...lines.map(line));
    $("lines").lastElementChild?.scrollIntoView({ block: "nearest" });
    $("typing").textContent = others.length ? `${others.join(", ")} ${others.length > 1 ? "are" : "is"} typing …` : "";
  };
  chat.onpresent = (present) => ($("present").textContent = `Here: ${Object.keys(present).sort().join(", ")}`);
  $("text").oninput = () => {
    if (Date.now() - typed < TYPING_EVERY_MS) return;
    typed = Date.now();
    chat.push("typing").catch(notice);
  };
  $("say").onsubmit = (event) => {
    event.preventDefault();
    notice();
    typed = 0;
    chat.push("say", { text: $("text").value }).then(() => ($("text").value = ""), notice);
  };
}

$("enter").onsubmit = (event) => {
  event.preventDefault();
  notice();
  enter($("name").value);
};
