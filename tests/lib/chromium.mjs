/*
 * chromium - Debian's browser, headless, with a profile of its own
 *
 *     const browser = await startChromium();
 *     const page = await browser.newPage();
 *     await browser.end();                     // always, in after()
 */
import assert from "node:assert/strict";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { chromium } from "playwright-core";
import { patience } from "./wait.mjs";

const executablePath = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"].find(existsSync);
const quiet = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage"];

/* startChromium - args: more of the command line; options: of Playwright's context */
export async function startChromium({ args = [], ...options } = {}) {
  assert.ok(executablePath, "chromium is installed");
  const profile = mkdtempSync(join(tmpdir(), "seance-chromium-"));
  try {
    const browser = await chromium.launchPersistentContext(profile, { executablePath, args: [...quiet, ...args], timeout: 30000 * patience, ...options });
    browser.setDefaultTimeout(5000 * patience);
    browser.end = async () => {
      await browser.close();
      rmSync(profile, { recursive: true, force: true });
    };
    return browser;
  } catch (error) {
    rmSync(profile, { recursive: true, force: true });
    throw error;
  }
}
