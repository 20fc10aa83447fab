/* counter.js - the page: shows the number, pushes what is clicked; /#name is the topic counter:name */
import { connect } from "/seance.js";

const $ = (id) => document.getElementById(id);
const counter = connect("/socket").channel(`counter:${decodeURIComponent(location.hash.slice(1)) || "home"}`);

const push = (event, payload) => () => {
  $("notice").textContent = "";
  counter.push(event, payload).catch((error) => ($("notice").textContent = error.message));
};

counter.onchange = ({ count }) => ($("count").textContent = count);
counter.onstatus = (status) => (document.body.dataset.status = status);
$("increment").onclick = push("increment");
$("ten").onclick = push("add", { by: 10 });
$("reset").onclick = push("reset");
