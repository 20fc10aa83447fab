/*
 * driver - a client under load: one event at a time, each answered before its next; what it sees is checked
 *
 *     const driver = await Driver.start(url, "counter:7", { event: "inc", count: (state) => state.count });
 *     ... driver.done, the number of acknowledged events, rises ...
 *     await driver.finish();
 *
 * An event is acknowledged by the answer to a heartbeat behind it, since a socket's messages are answered in
 * order.  Meanwhile every frame must be a patch with the next version; anything else (a full state, an
 * error, a close) is a failure, kept in driver.failure and thrown by finish.
 */
import assert from "node:assert/strict";
import { patched } from "./recording.mjs";
import { Raw } from "./raw.mjs";
import { within } from "./wait.mjs";

const MAX_VERSION = 1000;
const next = (version) => (version === MAX_VERSION ? 0 : version + 1);

export class Driver {
  done = 0;
  patches = 0;
  failure = null;
  #ref = 1;
  #stopping = false;

  static async start(url, topic, { event = "inc", heartbeat = true } = {}) {
    const driver = new Driver();
    driver.topic = topic;
    driver.event = event;
    driver.heartbeat = heartbeat;
    driver.raw = await Raw.open(url);
    Object.assign(driver, await driver.raw.join(topic));
    driver.firstVersion = driver.version;
    return driver;
  }

  /* go - begins to send; to be called when all are joined */
  go() {
    this.ended = this.#run().catch((error) => {
      this.failure = error;
    });
  }

  /* finish - lets the event under way end; throws what went wrong */
  async finish(ms = 40000) {
    this.#stopping = true;
    await within(this.ended, `the last answer to ${this.topic}`, ms);
    if (this.failure) throw this.failure;
  }

  /* caughtUp - takes what others still cause, until `count` patches have come */
  async caughtUp(patches) {
    while (this.patches < patches) this.#take(await this.raw.item(`patch ${this.patches + 1} of ${patches} of ${this.topic}`));
    assert.equal(this.patches, patches, `patches of ${this.topic}`);
  }

  async #run() {
    while (!this.#stopping) {
      const ref = String(++this.#ref);
      const own = this.patches;

      this.raw.send(["1", ref, this.topic, `seance:event:${this.event}`, {}]);
      if (this.heartbeat) this.raw.send([null, `${ref}h`, "phoenix", "heartbeat", {}]);
      for (;;) {
        const item = await this.raw.item(`the answer to event ${this.done + 1} of ${this.topic}`, 40000);
        const answered = this.#take(item);
        if (this.heartbeat ? answered === `${ref}h` : this.patches > own) break;
      }
      this.done++;
    }
  }

  /* Checks one frame; returns the ref if it answers a heartbeat. */
  #take(item) {
    assert.ok(item.frame, `${this.topic} after ${this.patches} patches: got ${JSON.stringify(item)}`);
    const [, ref, topic, event, payload] = item.frame;
    if (topic === "phoenix" && event === "phx_reply") return ref;
    assert.equal(event, "seance:patch", `${this.topic} after ${this.patches} patches: got ${item.text}`);
    assert.equal(payload.version, next(this.version), `${this.topic}: version after ${this.version}`);
    this.state = patched(this.state, payload.operations);
    this.version = payload.version;
    this.patches++;
    return undefined;
  }
}
