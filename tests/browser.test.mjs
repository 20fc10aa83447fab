/*
 * Two pages of the example side by side, in headless Chromium.
 */
import assert from "node:assert/strict";
import { rmSync } from "node:fs";
import { after, before, describe, it } from "node:test";
import { startChromium } from "./lib/chromium.mjs";
import { patience, until } from "./lib/wait.mjs";
import { startSystem, temporaryDir } from "./system.mjs";

let system;
let dir; // given to the system, so that it can be stopped and started again on what is stored
let browser;
const wrong = []; // what no page may say

before(async () => {
  dir = temporaryDir();
  system = await startSystem({ app: "examples/todos", dir });
  browser = await startChromium({ viewport: { width: 900, height: 760 } });
});
after(async () => {
  await browser?.end();
  await system?.stop();
  if (dir) rmSync(dir, { recursive: true, force: true });
});

async function open(list = "") {
  const page = await browser.newPage();
  page.on("pageerror", (error) => wrong.push(String(error)));
  page.on("console", (message) => {
    if (message.type() === "error" && !/WebSocket connection to/.test(message.text())) wrong.push(message.text());
  });
  await page.goto(`${system.url}/${list}`);
  await status(page, "connected");
  return page;
}

const status = (page, wanted) => page.locator(`body[data-status="${wanted}"]`).waitFor({ state: "attached", timeout: 20000 * patience });

/* shown - the list as a reader sees it: "x Buy candles" is done */
const shown = (page) =>
  page.locator("#list li").evaluateAll((rows) => rows.map((row) => `${row.querySelector("input").checked ? "x" : "-"} ${row.querySelector(".title").textContent}`));

async function shows(page, wanted) {
  let now;
  await until(async () => JSON.stringify((now = await shown(page))) === JSON.stringify(wanted), () => `the list ${JSON.stringify(wanted)}, which is ${JSON.stringify(now)}`);
}

const row = (page, title) => page.locator("#list li", { hasText: title });

async function add(page, title) {
  await page.fill("#title", title);
  await page.press("#title", "Enter");
  await until(async () => (await page.inputValue("#title")) === "", "the empty field after an addition");
}

describe("two pages side by side", () => {
  let a;
  let b;
  before(async () => {
    a = await open();
    b = await open();
  });

  it("both are connected and show the empty list", async () => {
    for (const page of [a, b]) {
      await shows(page, []);
      assert.equal(await page.textContent("#status"), "Connected");
      assert.ok(await page.isVisible("#empty"));
    }
  });

  it("what one adds the other shows", async () => {
    await add(a, "Buy candles");
    await add(b, "<b>Invite</b> & greet");
    for (const page of [a, b]) await shows(page, ["- Buy candles", "- <b>Invite</b> & greet"]);
    assert.equal(await b.textContent("#summary"), "2 to do, 0 done");
  });

  it("toggles, by mouse and by keyboard", async () => {
    await row(a, "Buy candles").locator(".item").click();
    await shows(b, ["x Buy candles", "- <b>Invite</b> & greet"]);
    await row(b, "Buy candles").locator("input[type=checkbox]").focus();
    await b.keyboard.press("Space");
    await shows(a, ["- Buy candles", "- <b>Invite</b> & greet"]);
    await row(a, "Buy candles").locator(".item").click();
    await shows(b, ["x Buy candles", "- <b>Invite</b> & greet"]);
  });

  it("renames; Escape leaves it as it was", async () => {
    await row(a, "greet").getByRole("button", { name: /^Rename/ }).click();
    await a.keyboard.type("Invite the neighbours");
    await a.keyboard.press("Enter");
    await shows(b, ["x Buy candles", "- Invite the neighbours"]);
    await row(b, "Invite").locator(".title").dblclick();
    await b.keyboard.type("nobody");
    await b.keyboard.press("Escape");
    await add(b, "Dust the table");
    await shows(a, ["x Buy candles", "- Invite the neighbours", "- Dust the table"]);
  });

  it("a title being edited survives what others change", async () => {
    await row(a, "Dust").getByRole("button", { name: /^Rename/ }).click();
    await a.keyboard.type("Polish the");
    await add(b, "Ask");
    await shows(a, ["x Buy candles", "- Invite the neighbours", "- Dust the table", "- Ask"]);
    await a.keyboard.type(" table");
    await a.keyboard.press("Enter");
    await shows(b, ["x Buy candles", "- Invite the neighbours", "- Polish the table", "- Ask"]);
  });

  it("removes; the focus stays in the list", async () => {
    await row(b, "Invite").getByRole("button", { name: /^Remove/ }).focus();
    await b.keyboard.press("Enter");
    await shows(a, ["x Buy candles", "- Polish the table", "- Ask"]);
    await shows(b, ["x Buy candles", "- Polish the table", "- Ask"]);
    assert.ok(await b.evaluate(() => document.querySelector("#list").contains(document.activeElement)));
  });

  it("clears what is finished", async () => {
    await row(a, "Ask").locator(".item").click();
    await shows(b, ["x Buy candles", "- Polish the table", "x Ask"]);
    await b.getByRole("button", { name: "Clear finished" }).click();
    for (const page of [a, b]) await shows(page, ["- Polish the table"]);
    assert.ok(!(await a.isVisible("#clear")));
  });

  it("another list is another topic", async () => {
    const c = await open("#groceries");
    await add(c, "Milk");
    await shows(c, ["- Milk"]);
    await shows(a, ["- Polish the table"]);
    await c.close();
  });

  it("a restart of the program's worker is not noticed", async () => {
    const seen = await a.evaluateHandle(() => {
      const statuses = [];
      new MutationObserver(() => statuses.push(document.body.dataset.status)).observe(document.body, { attributes: true });
      return statuses;
    });
    await system.killWorker();
    await add(b, "After the kill");
    await shows(a, ["- Polish the table", "- After the kill"]);
    assert.deepEqual(await seen.jsonValue(), []);
  });

  it("a restart of nginx: disconnected, then connected, and on it goes", async () => {
    const [pid, gone] = [system.nginxPid(), Promise.all([a, b].map((page) => status(page, "disconnected")))];
    await system.restartNginx();
    await gone;
    assert.notEqual(system.nginxPid(), pid);
    for (const page of [a, b]) await status(page, "connected");
    await add(a, "After nginx");
    for (const page of [a, b]) await shows(page, ["- Polish the table", "- After the kill", "- After nginx"]);
  });

  it("program and nginx stopped and started again: the same, with all that is stored", async () => {
    const { port } = system;
    await system.stop();
    system = null;
    for (const page of [a, b]) await status(page, "disconnected");
    await a.fill("#title", "Too early");
    await a.press("#title", "Enter");
    await a.getByText("Not connected just now").waitFor();
    system = await startSystem({ app: "examples/todos", dir, port });
    for (const page of [a, b]) await status(page, "connected");
    for (const page of [a, b]) await shows(page, ["- Polish the table", "- After the kill", "- After nginx", "- Too early"]);
  });

  it("no page said anything wrong", () => assert.deepEqual(wrong, []));
});
