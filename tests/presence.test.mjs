/*
 * Presence: the class of the npm package phoenix, three versions of it, against a topic with presence.
 */
import "./lib/xml_http_request.mjs";
import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import * as phoenix16 from "phoenix";
import * as phoenix17 from "phoenix17";
import * as phoenix18 from "phoenix18";
import WebSocket from "ws";
import { until } from "./lib/wait.mjs";
import { startSystem } from "./system.mjs";

const GRACE_MS = 1500; // of room:* in tests/conformance

/* Member - somebody in a room, with what his Presence shows and has called */
class Member {
  calls = [];
  opened = 0;

  constructor({ Socket, Presence }, system, topic, payload, mount = "socket", transport = WebSocket) {
    this.socket = new Socket(`${system.ws}/${mount}`, { transport });
    this.socket.onOpen(() => this.opened++);
    this.socket.connect();
    this.channel = this.socket.channel(topic, payload);
    this.presence = new Presence(this.channel);
    this.presence.onJoin((key, current, { metas }) => this.calls.push(`+${key}${metas.length}`));
    this.presence.onLeave((key, current, { metas }) => this.calls.push(`-${key}${metas.length}`));
    this.channel.join();
  }

  /* shows - {key: number of metas} */
  shows() {
    return Object.fromEntries(this.presence.list((key, { metas }) => [key, metas.length]));
  }

  leave() {
    return new Promise((done) => this.channel.leave().receive("ok", done));
  }

  end() {
    return new Promise((done) => this.socket.disconnect(done));
  }
}

// by: ann's transport
for (const [name, client, by] of [["phoenix 1.6", phoenix16], ["phoenix 1.7", phoenix17], ["phoenix 1.8", phoenix18], ["phoenix 1.8, one of them by long-poll", phoenix18, phoenix18.LongPoll]]) {
  describe(`Presence of ${name}`, () => {
    let system;
    const members = [];
    const topic = "room:presence";
    const enter = (payload, mount, transport) => {
      const member = new Member(client, system, topic, payload, mount, transport);
      members.push(member);
      return member;
    };
    const allShow = (these, wanted) =>
      until(
        () => these.every((member) => assert.deepEqual(member.shows(), wanted) === undefined),
        () => `${JSON.stringify(wanted)}, but they show ${these.map((member) => JSON.stringify(member.shows()))}`,
      );

    before(async () => {
      system = await startSystem({ app: "tests/conformance" });
    });
    after(async () => {
      await Promise.all(members.map((member) => member.end()));
      await system?.stop();
    });

    let ann, bob, bob2;
    it("who comes sees all, and all see him", async () => {
      ann = enter({ name: "ann" }, "socket", by);
      await allShow([ann], { ann: 1 });
      bob = enter({ name: "bob/é \"" });
      await allShow([ann, bob], { ann: 1, "bob/é \"": 1 });
      assert.deepEqual(ann.calls, ["+ann1", "+bob/é \"1"], "onJoin once each");
    });

    it("twice under one key, and on the other vocabulary", async () => {
      bob2 = enter({ name: "bob/é \"" }, "live_state");
      await allShow([ann, bob, bob2], { ann: 1, "bob/é \"": 2 });
    });

    it("a meta that changes", async () => {
      ann.channel.push("seance:event:away", { why: "lunch" });
      await until(() => bob.presence.list()[0].metas[0].away === "lunch", "the new meta");
      assert.equal(bob.presence.list()[0].metas.length, 1);
      assert.equal(bob.presence.list()[0].metas[0].phx_ref_prev !== undefined, true);
    });

    it("a connection that breaks and comes back is not seen by the others", async () => {
      const calls = bob.calls.length;
      const ref = bob.presence.list()[0].metas[0].phx_ref;
      bob.channel.push("seance:event:say", { text: "before" });
      ann.channel.push("seance:event:away", { why: "train" });
      await until(() => bob.presence.list()[0].metas[0].away === "train", "ann is in the train");
      const from = bob.calls.length;
      assert.ok(from > calls && ref);
      bob2.socket.conn.close(); // comes back by itself, with the same key and meta
      await until(() => bob2.opened === 2 && bob2.channel.isJoined(), "the way back", GRACE_MS);
      const over = Date.now() + GRACE_MS + 200;
      await until(() => Date.now() > over, "the end of the grace time, in which nobody goes");
      await allShow([ann, bob, bob2], { ann: 1, "bob/é \"": 2 });
      assert.deepEqual(bob.calls.slice(from), [], "no onJoin, no onLeave");
    });

    it("the program is killed meanwhile", async () => {
      await system.killWorker();
      await bob2.leave();
      await allShow([ann, bob], { ann: 1, "bob/é \"": 1 });
      assert.equal(ann.channel.state, "joined");
    });

    it("a key that phoenix's own code would stumble over is not shown", async () => {
      const odd = enter({ name: "constructor" });
      await allShow([ann, bob, odd], { ann: 1, "bob/é \"": 1 });
      await until(() => /its key is refused/.test(system.read("program.log")), "a line in the log");
    });

    it("who goes is gone, after the grace time", async () => {
      await bob.end();
      await allShow([ann], { ann: 1 });
    });
  });
}
