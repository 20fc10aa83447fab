/*
 * nginx/www/seance.js in headless Chromium, on a network that lets no WebSocket through: the examples' pages, beside one
 * with a WebSocket.
 */
import assert from "node:assert/strict";
import { after, afterEach, before, describe, it } from "node:test";
import { startChromium } from "./lib/chromium.mjs";
import { patience, until, within } from "./lib/wait.mjs";
import { startSystem } from "./system.mjs";

/* nginx answers the handshake with 404. */
const block = () => {
  const { WebSocket } = globalThis;
  globalThis.blocked = true;
  globalThis.WebSocket = class extends WebSocket {
    constructor(url) {
      super(globalThis.blocked ? url.replace("/socket/", "/nowhere/") : url);
    }
  };
};

let system;
let browser;
const pages = [];
before(async () => (browser = await startChromium()));
after(() => browser?.end());
afterEach(async () => {
  for (const page of pages.splice(0)) await page.close();
  await system?.stop();
  system = undefined;
});

const start = async (app) => (system = await startSystem({ app }));
const status = (page, wanted) => page.locator(`body[data-status="${wanted}"]`).waitFor({ state: "attached", timeout: 20000 * patience });

async function open(path, { blocked = true } = {}) {
  const page = await browser.newPage();
  pages.push(page);
  page.on("pageerror", (error) => assert.fail(error));
  if (blocked) await page.addInitScript(block);
  await page.goto(system.url + path);
  return page;
}

const holds = (wanted) =>
  until(async () => {
    const { websockets = 0, streams = 0, parked = 0 } = await system.counts();
    assert.deepEqual({ websockets, streams, parked }, wanted);
    return true;
  }, JSON.stringify(wanted), 15000);

describe("todos: shared state, by event streams", () => {
  const shown = (page) => page.locator("#list .title").allTextContents();
  const shows = (page, wanted) => until(async () => assert.deepEqual(await shown(page), wanted) === undefined, `the list ${wanted}`, 20000);
  const add = async (page, title) => {
    await page.fill("#title", title);
    await page.press("#title", "Enter");
    await until(async () => (await page.inputValue("#title")) === "", "the empty field after an addition", 20000);
  };

  it("both pages see the same, through a kill of the program and a restart of nginx; then by WebSocket", async () => {
    await start("examples/todos");
    const [a, b] = [await open("/"), await open("/", { blocked: false })];
    for (const page of [a, b]) await status(page, "connected");
    await add(a, "by POST");
    await add(b, "by WebSocket");
    for (const page of [a, b]) await shows(page, ["by POST", "by WebSocket"]);
    await holds({ websockets: 1, streams: 1, parked: 0 });
    await system.killWorker();
    await add(a, "after the kill");
    await system.restartNginx("SIGKILL");
    await add(a, "after nginx");
    for (const page of [a, b]) await shows(page, ["by POST", "by WebSocket", "after the kill", "after nginx"]);
    await holds({ websockets: 1, streams: 1, parked: 0 });
    await a.evaluate(() => {
      globalThis.blocked = false;
      globalThis.dispatchEvent(new Event("online"));
    });
    await holds({ websockets: 2, streams: 0, parked: 0 });
    await add(a, "by WebSocket, too");
    await shows(b, ["by POST", "by WebSocket", "after the kill", "after nginx", "by WebSocket, too"]);
  });

  it("offline, with things to add: they are added once, in order, when it is online again", async () => {
    await start("examples/todos");
    const [a, b] = [await open("/"), await open("/", { blocked: false })];
    for (const page of [a, b]) {
      await status(page, "connected");
      await page.evaluate(async () => {
        const { connect } = await import("/seance.js");
        globalThis.list = connect("/socket").channel("todos:home");
        await globalThis.list.push("add", { title: "online" });
      });
    }
    await browser.setOffline(true);
    const pushes = [a, b].map((page, i) => page.evaluate((i) => Promise.all([1, 2, 3].map((n) => globalThis.list.push("add", { title: `${i} ${n}` }))), i));
    await until(async () => !(await a.evaluate(() => navigator.onLine)), "being offline");
    await browser.setOffline(false);
    await within(Promise.all(pushes), "the pushes", 30000);
    for (const page of [a, b]) {
      await until(async () => (await shown(page)).length === 8, "all eight");
      const titles = await shown(page);
      for (const i of [0, 1]) assert.deepEqual(titles.filter((title) => title.startsWith(`${i} `)), [1, 2, 3].map((n) => `${i} ${n}`));
    }
  });
});

describe("chat: presence, by event streams", () => {
  it("who is there, who types, what is said", async () => {
    await start("examples/chat");
    const [ann, bob] = [await open("/"), await open("/", { blocked: false })];
    for (const [page, name] of [[ann, "Ann"], [bob, "Bob"]]) {
      await page.fill("#name", name);
      await page.press("#name", "Enter");
      await status(page, "joined");
    }
    for (const page of [ann, bob]) await page.getByText("Here: Ann, Bob").waitFor();
    await holds({ websockets: 1, streams: 1, parked: 0 });
    await ann.fill("#text", "hello");
    await bob.getByText("Ann is typing").waitFor();
    await ann.press("#text", "Enter");
    for (const page of [ann, bob]) await page.locator("#lines li", { hasText: "hello" }).waitFor();
    await bob.close();
    pages.pop();
    await ann.getByText(/^Here: Ann$/).waitFor({ timeout: 20000 * patience });
  });
});

describe("wizard: private state, by long-poll", () => {
  it("goes through all its steps, also when the program is killed", async () => {
    await start("examples/wizard");
    const page = await open("/");
    await status(page, "joined");
    await holds({ websockets: 0, streams: 0, parked: 1 });
    await page.fill("#value", "Ann");
    await page.click("#next");
    await page.locator('#value[type="number"]').waitFor();
    await system.killWorker();
    await page.fill("#value", "2");
    await page.click("#next");
    await page.getByText("2 seats for Ann").waitFor();
    await page.click("#next");
    await page.getByText("Thank you, Ann: 2 it is.").waitFor();
  });
});
