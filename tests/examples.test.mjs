/*
 * The pages of the examples, in Debian's Chromium: what one does the other sees.  (todos: browser.test.mjs)
 */
import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import { startChromium } from "./lib/chromium.mjs";
import { startSystem } from "./system.mjs";

const shots = process.env.SEANCE_TEST_SHOTS; // a folder for screenshots

for (const [name, steps] of Object.entries({
  async counter(one, other) {
    await one.click("#increment");
    await one.click("#ten");
    await other.waitForFunction(() => document.getElementById("count").textContent === "11");
    await other.click("#reset");
    await one.waitForFunction(() => document.getElementById("count").textContent === "0");
    await one.click("#reset");
    await one.waitForFunction(() => /0 already/.test(document.getElementById("notice").textContent));
  },

  async chat(one, other) {
    for (const [page, who] of [[one, "Ann"], [other, "Bob"]]) {
      await page.fill("#name", who);
      await page.press("#name", "Enter");
      await page.waitForSelector("#room:not([hidden])");
    }
    await one.waitForFunction(() => document.getElementById("present").textContent === "Here: Ann, Bob");
    await other.fill("#text", "Hello <b>there</b>");
    await one.waitForFunction(() => document.getElementById("typing").textContent === "Bob is typing …");
    await other.press("#text", "Enter");
    await one.waitForFunction(() => document.querySelector("#lines li")?.textContent === "BobHello <b>there</b>");
    await one.waitForFunction(() => document.getElementById("typing").textContent === "");
    await one.fill("#text", "Good evening.");
    await one.press("#text", "Enter");
    await other.waitForFunction(() => document.querySelectorAll("#lines li").length === 2);
  },

  async wizard(one, other) {
    await one.press("#value", "Enter");
    await one.waitForFunction(() => document.getElementById("notice").textContent === "Please give a name.");
    await one.fill("#value", "Ann");
    await one.press("#value", "Enter");
    await one.waitForSelector("#value[type=number]");
    await one.fill("#value", "3");
    await one.press("#value", "Enter");
    await one.waitForFunction(() => document.getElementById("next").textContent === "Order");
    await one.click("#next");
    await one.waitForFunction(() => document.getElementById("answers").textContent === "Thank you, Ann: 3 it is.");
    assert.equal(await other.textContent("[aria-current]"), "Your name", "the other's state is his own");
  },
}))
  describe(name, () => {
    let system, browser;
    before(async () => {
      system = await startSystem({ app: `examples/${name}` });
      browser = await startChromium();
    });
    after(async () => {
      await browser?.end();
      await system?.stop();
    });

    it("works in two windows, without an error on the console", async () => {
      const said = [];
      const pages = [await browser.newPage(), await browser.newPage()];
      for (const page of pages) {
        page.on("console", (message) => message.type() === "error" && said.push(message.text()));
        page.on("pageerror", (error) => said.push(error.message));
        await page.goto(system.url);
        await page.waitForFunction((chat) => chat || document.body.dataset.status === "joined", name === "chat");
      }
      await steps(...pages);
      if (shots) await pages[0].screenshot({ path: `${shots}/${name}.png` });
      assert.deepEqual(said, []);
    });

    if (name === "wizard")
      it("goes on where it was when the connection was lost", async () => {
        const page = await browser.newPage();
        await page.goto(system.url);
        await page.fill("#value", "Ann");
        await page.press("#value", "Enter");
        await page.waitForSelector("#value[type=number]");
        await system.restartNginx();
        await page.waitForFunction(() => document.body.dataset.status === "joined");
        await page.fill("#value", "2");
        await page.press("#value", "Enter");
        await page.waitForFunction(() => document.getElementById("answers").textContent === "2 seats for Ann");
      });
  });
