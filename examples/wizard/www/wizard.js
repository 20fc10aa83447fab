/*
 * wizard.js - the page: shows the step that the server says, and sends the answer to it
 */
import { connect } from "/seance.js";

const LABELS = { name: "Your name", seats: "How many seats", confirm: "Is it right?", done: "Done" };

const $ = (id) => document.getElementById(id);
const wizard = connect("/socket").channel("wizard:order");

const push = (event, payload) => {
  $("notice").textContent = "";
  return wizard.push(event, payload).catch((error) => ($("notice").textContent = error.message));
};

wizard.onstatus = (status) => (document.body.dataset.status = status);
wizard.onchange = ({ step, answers }) => {
  $("steps").replaceChildren(...Object.entries(LABELS).map(([name, label]) => {
    const item = document.createElement("li");
    item.textContent = label;
    if (name === step) item.setAttribute("aria-current", "step");
    return item;
  }));
  const asks = step === "name" || step === "seats";
  $("value").hidden = !asks;
  $("value").type = step === "seats" ? "number" : "text";
  $("value").value = answers[step] ?? "";
  $("back").hidden = step === "name" || step === "done";
  $("next").hidden = step === "done";
  $("next").textContent = step === "confirm" ? "Order" : "Next";
  if (step !== "done") $("answers").textContent = answers.seats ? `${answers.seats} ${answers.seats === 1 ? "seat" : "seats"} for ${answers.name}` : "";
};
wizard.on("ordered", ({ name, seats }) => ($("answers").textContent = `Thank you, ${name}: ${seats} it is.`));

$("back").onclick = () => push("back");
$("form").onsubmit = (event) => {
  event.preventDefault();
  const { value, type, hidden } = $("value");
  if (hidden) push("confirm");
  else push("next", { value: type === "number" ? Number(value) : value });
};
