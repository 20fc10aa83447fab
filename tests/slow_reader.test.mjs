/*
 * A client that stops reading while a topic changes, and reads again: what waits for it is bounded; it gets
 * the events in between and the state in place of the patches that it missed, and then goes on with the next patch.
 */
import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import { isDeepStrictEqual } from "node:util";
import patches from "fast-json-patch";
import { Raw } from "./lib/raw.mjs";
import { startSystem } from "./system.mjs";

const CHANGES = 10000;
const SAY_EVERY = 200;

/* Client - a Phoenix client's view of a topic: takes frames as phx-live-state does */
class Client {
  version = undefined;
  state = undefined;
  said = [];
  states = 0;
  patches = 0;

  take([, , , event, payload]) {
    if (/:change$/.test(event)) {
      this.states++;
      ({ state: this.state, version: this.version } = payload);
    } else if (/:patch$/.test(event)) {
      assert.ok(payload.version === this.version + 1 || payload.version === 0, `patch ${payload.version} on version ${this.version}`);
      this.patches++;
      this.state = patches.applyPatch(this.state, payload.operations ?? payload.patch).newDocument;
      this.version = payload.version;
    } else if (event === "seance:event") {
      this.said.push(payload.detail.n);
    } else if (event === "said") {
      this.said.push(payload.n);
    }
  }
}

describe(`a reader that sleeps through ${CHANGES} changes`, () => {
  let system;
  before(async () => {
    system = await startSystem({ app: "tests/conformance" });
  });
  after(() => system?.stop());

  for (const mount of ["socket", "live_state"])
    it(`${mount}: ends with the state, each event once and in order, few frames`, async (t) => {
      const topic = `board:slow_${mount}`;
      const [writer, sleeper] = await Promise.all(["socket", mount].map((name) => Raw.open(`${system.ws}/${name}/websocket?vsn=2.0.0`)));
      const [fast, slow] = [new Client(), new Client()];
      try {
        for (const [raw, client] of [[writer, fast], [sleeper, slow]]) client.take([null, null, topic, "x:change", await raw.join(topic)]);
        sleeper.socket.pause();
        const said = [];
        let sent = 0;
        let answered = 0;
        while (answered < CHANGES) {
          for (; sent < CHANGES && sent < answered + 100; sent++) {
            const say = sent % SAY_EVERY === 0;
            if (say) said.push(sent);
            const event = say ? "say" : "set";
            writer.send(["1", `${sent}`, topic, `seance:event:${event}`, say ? { n: sent } : { n: sent, items: ["x".repeat(1000) + sent] }]);
          }
          const frame = await writer.frame("an answer");
          fast.take(frame);
          if (/:patch$/.test(frame[3])) answered++;
        }
        sleeper.socket.resume();
        while (slow.state.n !== fast.state.n) slow.take(await sleeper.frame("what it missed"));
        assert.equal(slow.version, fast.version);
        assert.ok(isDeepStrictEqual(slow.state, fast.state), "the same state");
        assert.deepEqual(slow.said, said);
        t.diagnostic(`${slow.states} states and ${slow.patches} patches for ${CHANGES} changes`);
        assert.ok(slow.states >= 2, "it got a state in place of patches");
        assert.ok(slow.patches < CHANGES / 2);
        writer.send(["1", "next", topic, "seance:event:inc", {}]);
        fast.take(await writer.frame());
        slow.take(await sleeper.frame("the next patch"));
        assert.equal(slow.state.n, CHANGES);
        assert.ok(isDeepStrictEqual(slow.state, fast.state), "the same state");
        assert.equal(slow.version, fast.version);
      } finally {
        await Promise.all([writer.close(), sleeper.close()]);
      }
    });
});
