/*
 * differences - the recorded cases in which this project does something else, on purpose
 *
 * Each entry: the case's name in websocket.txt, why, and one of
 *   ours    the whole case as it goes here, in the same format
 *
 * A line BROADCAST TOPIC JSON in ours is a message from outside.
 *
 *   slow    what it takes is too long to be replayed each time
 *
 * Numbers are those of the list "Deliberate differences" in the design.
 */
const raw = String.raw;

export const differences = [
  {
    name: 'bad init {:error, "you stink"}; then an event on it',
    why: "6: a failed init leaves no join behind",
    ours: raw`
C ["1","1","bad_init:all","phx_join",{}]
S ["1","1","bad_init:all","phx_reply",{"response":{},"status":"ok"}]
S ["1",null,"bad_init:all","seance:error",{"message":"you stink"}]
C ["1","2","bad_init:all","seance:event:x",{}]
S [null,"2","bad_init:all","phx_reply",{"response":{"reason":"unmatched topic"},"status":"error"}]`,
  },
  {
    name: "unknown channel event (no known prefix)",
    why: "4: refused, where the reference crashes",
    ours: raw`
C ["1","1","todos:all","phx_join",{"token":"footoken"}]
S ["1","1","todos:all","phx_reply",{"response":{},"status":"ok"}]
S ["1",null,"todos:all","seance:change",{"state":{"todos":[],"token":"footoken"},"version":0}]
C ["1","2","todos:all","whatever",{"a":1}]
S ["1","2","todos:all","phx_reply",{"response":{"reason":"unmatched event"},"status":"error"}]
# still joined
C ["1","3","todos:all","seance:event:same",{}]
S ["1",null,"todos:all","seance:patch",{"operations":[],"version":1}]`,
  },
  {
    name: 'bare "seance:event" with {type,payload}: what the JS client at HEAD (src/v2/channel.ts) pushes',
    why: "both forms of an event are accepted, so that both JS clients work",
    ours: raw`
C ["1","1","counter:a","phx_join",{}]
S ["1","1","counter:a","phx_reply",{"response":{},"status":"ok"}]
S ["1",null,"counter:a","seance:change",{"state":{"count":0},"version":0}]
C ["1","2","counter:a","seance:event",{"type":"inc","payload":{}}]
S ["1",null,"counter:a","seance:patch",{"operations":[{"op":"replace","path":"/count","value":1}],"version":1}]`,
  },
  {
    name: "lvs_refresh / seance:refresh are not known to Seance",
    why: "3: seance:refresh exists",
    ours: raw`
C ["1","1","foo:all","phx_join",{}]
S ["1","1","foo:all","phx_reply",{"response":{},"status":"ok"}]
S ["1",null,"foo:all","seance:change",{"state":{"foo":"bar"},"version":0}]
C ["1","2","foo:all","seance:event:change_foo",{"foo":"x"}]
S ["1",null,"foo:all","seance:patch",{"operations":[{"op":"replace","path":"/foo","value":"x"}],"version":1}]
C ["1","3","foo:all","seance:refresh",{}]
S ["1",null,"foo:all","seance:change",{"state":{"foo":"x"},"version":1}]
C ["1","4","foo:all","seance:event:change_foo",{"foo":"y"}]
S ["1",null,"foo:all","seance:patch",{"operations":[{"op":"replace","path":"/foo","value":"y"}],"version":2}]`,
  },
  {
    name: "unicode, big numbers, floats, nested nulls",
    why: "an integer that no 64 bits hold is refused as malformed, where Elixir has integers of any size; " +
      "which of two members of the same name counts is left open",
    ours: raw`
C ["1","1","todos:all","phx_join",{"token":"é😀 /\"\\"}]
S ["1","1","todos:all","phx_reply",{"response":{},"status":"ok"}]
S ["1",null,"todos:all","seance:change",{"state":{"todos":[],"token":"é😀 /\"\\"},"version":0}]
C ["1","2","todos:all","seance:event:add_todo",{"n":12345678901234567000,"f":1,"e":1000,"z":0,"x":null,"t":"\u0000\u001f</script>"}]
S ["1",null,"todos:all","seance:patch",{"operations":[{"op":"remove","path":"/token"},{"op":"add","path":"/todos/0","value":{"e":1000,"f":1,"n":12345678901234567000,"t":"\u0000\u001F</script>","x":null,"z":0}}],"version":1}]
C ["1","3","todos:all","seance:event:add_todo",{"f":1.0,"e":1e3,"E":1.5E-7,"neg0":-0.0}]
S ["1",null,"todos:all","seance:patch",{"operations":[{"op":"add","path":"/todos/0","value":{"f":1.0,"e":1e3,"E":1.5E-7,"neg0":-0.0}}],"version":2}]
C ["1","4","todos:all","seance:event:add_todo",{"big":123456789012345678901234567890}]
S [close code=1011 reason=""]`,
  },
  {
    name: "diff: keys, type changes, nulls, nested lists",
    why: "the reference sends no operation when the whole state becomes another kind of value, and its " +
      "clients stay on the old one; ours replaces it",
    ours: raw`
C ["1","1","any:a","phx_join",{"a":{"b":1},"l":[1,null,3],"n":null,"e":{}}]
S ["1","1","any:a","phx_reply",{"response":{},"status":"ok"}]
S ["1",null,"any:a","seance:change",{"state":{"a":{"b":1},"e":{},"l":[1,null,3],"n":null},"version":0}]
C ["1","2","any:a","seance:event:set",{"a":[1],"l":[null,1],"n":{"x":1},"e":[]}]
S ["1",null,"any:a","seance:patch",{"operations":[{"op":"replace","path":"/n","value":{"x":1}},{"op":"remove","path":"/l/2"},{"op":"replace","path":"/l/0","value":null},{"op":"replace","path":"/l/1","value":1},{"op":"replace","path":"/e","value":[]},{"op":"replace","path":"/a","value":[1]}],"version":1}]
C ["1","3","any:a","seance:event:set",{"a":[1,null],"l":[],"n":false,"e":{}}]
S ["1",null,"any:a","seance:patch",{"operations":[{"op":"replace","path":"/n","value":false},{"op":"remove","path":"/l/1"},{"op":"remove","path":"/l/0"},{"op":"replace","path":"/e","value":{}},{"op":"add","path":"/a/1","value":null}],"version":2}]
C ["1","4","any:a","seance:event:set",{"a/b~c":{"":1},"l":[[1,2],[3]],"n":0}]
S ["1",null,"any:a","seance:patch",{"operations":[{"op":"remove","path":"/e"},{"op":"remove","path":"/a"},{"op":"replace","path":"/n","value":0},{"op":"add","path":"/l/0","value":[1,2]},{"op":"add","path":"/l/1","value":[3]},{"op":"add","path":"/a~1b~0c","value":{"":1}}],"version":3}]
C ["1","5","any:a","seance:event:set",{"a/b~c":{"":2},"l":[[3]],"n":0}]
S ["1",null,"any:a","seance:patch",{"operations":[{"op":"remove","path":"/l/1"},{"op":"remove","path":"/l/0/1"},{"op":"replace","path":"/l/0/0","value":3},{"op":"replace","path":"/a~1b~0c/","value":2}],"version":4}]
C ["1","6","any:a","seance:event:set",{"a/b~c":{"":2},"l":[[3]],"n":0.0}]
S ["1",null,"any:a","seance:patch",{"operations":[],"version":5}]
C ["1","11","any:a","seance:event:set",[1,2]]
S ["1",null,"any:a","seance:patch",{"operations":[{"op":"replace","path":"","value":[1,2]}],"version":6}]
C ["1","12","any:a","seance:event:set",[2]]
S ["1",null,"any:a","seance:patch",{"operations":[{"op":"replace","path":"","value":[2]}],"version":7}]
C ["1","13","any:a","seance:event:set",{"z":1}]
S ["1",null,"any:a","seance:patch",{"operations":[{"op":"replace","path":"","value":{"z":1}}],"version":8}]
C ["1","14","any:a","seance:event:set",{"z":1}]
S ["1",null,"any:a","seance:patch",{"operations":[],"version":9}]`,
  },
  {
    name: "leave while a slow event runs; the event after it",
    why: "8: a socket's messages run one after the other, heartbeats included; the event after the leave is answered",
    ours: raw`
C ["1","1","crash:a","phx_join",{}]
S ["1","1","crash:a","phx_reply",{"response":{},"status":"ok"}]
S ["1",null,"crash:a","seance:change",{"state":{"n":0},"version":0}]
C ["1","2","crash:a","seance:event:slow",{"ms":300}]
C ["1","3","crash:a","phx_leave",{}]
C ["1","4","crash:a","seance:event:ok",{}]
C [null,"5","phoenix","heartbeat",{}]
S ["1",null,"crash:a","seance:patch",{"operations":[{"op":"replace","path":"/n","value":1}],"version":1}]
S ["1","3","crash:a","phx_reply",{"response":{},"status":"ok"}]
S ["1","1","crash:a","phx_close",{}]
S [null,"4","crash:a","phx_reply",{"response":{"reason":"unmatched topic"},"status":"error"}]
S [null,"5","phoenix","phx_reply",{"response":{},"status":"ok"}]`,
  },
  {
    name: "rejoin while a slow event runs (old channel process is killed, not waited for)",
    why: "8: the slow event is waited for",
    ours: raw`
C ["1","1","crash:a","phx_join",{}]
S ["1","1","crash:a","phx_reply",{"response":{},"status":"ok"}]
S ["1",null,"crash:a","seance:change",{"state":{"n":0},"version":0}]
C ["1","2","crash:a","seance:event:slow",{"ms":300}]
C ["3","3","crash:a","phx_join",{}]
C [null,"5","phoenix","heartbeat",{}]
S ["1",null,"crash:a","seance:patch",{"operations":[{"op":"replace","path":"/n","value":1}],"version":1}]
S ["3","3","crash:a","phx_reply",{"response":{},"status":"ok"}]
S ["1","1","crash:a","phx_close",{}]
S ["3",null,"crash:a","seance:change",{"state":{"n":0},"version":0}]
S [null,"5","phoenix","phx_reply",{"response":{},"status":"ok"}]`,
  },
  {
    name: "idle timeout: no frame from the client for 60 s",
    why: "the close code is 1001 (going away), 1002 says that the client broke the protocol",
    slow: "a minute",
    ours: raw`
C ["1","1","counter:a","phx_join",{}]
S ["1","1","counter:a","phx_reply",{"response":{},"status":"ok"}]
S ["1",null,"counter:a","seance:change",{"state":{"count":0},"version":0}]
S [close code=1001]`,
  },
  {
    name: "PubSub broadcast -> handle_message (sent from outside, GET /todo_added?description=And+another+one)",
    why: "the message from outside is broadcast by our own command line",
    ours: raw`
C ["1","1","todos:all","phx_join",{"token":"footoken"}]
S ["1","1","todos:all","phx_reply",{"response":{},"status":"ok"}]
S ["1",null,"todos:all","seance:change",{"state":{"todos":[],"token":"footoken"},"version":0}]
BROADCAST todos {"description":"And another one"}
S ["1",null,"todos:all","seance:event",{"name":"reply_event","detail":{"foo":"bar"}}]
S ["1",null,"todos:all","seance:patch",{"operations":[{"op":"remove","path":"/token"},{"op":"add","path":"/todos/0","value":{"description":"And another one"}}],"version":1}]
# broadcast from inside handle_event: the sender gets its own (empty) patch first, then the message
C ["1","2","todos:all","seance:event:broadcast",{"description":"mine"}]
S ["1",null,"todos:all","seance:patch",{"operations":[],"version":2}]
S ["1",null,"todos:all","seance:event",{"name":"reply_event","detail":{"foo":"bar"}}]
S ["1",null,"todos:all","seance:patch",{"operations":[{"op":"replace","path":"/todos/0/description","value":"mine"},{"op":"add","path":"/todos/1","value":{"description":"And another one"}}],"version":3}]`,
  },
];

/* What the reference has not, in the same format. */
export const additions = [
  {
    name: "encode: the private part is never shown, an event that changes only that is an empty patch",
    ours: raw`
C ["1","1","face:a","phx_join",{}]
S ["1","1","face:a","phx_reply",{"response":{},"status":"ok"}]
S ["1",null,"face:a","seance:change",{"state":{"public":0},"version":0}]
C ["1","2","face:a","seance:event:hidden",{}]
S ["1",null,"face:a","seance:patch",{"operations":[],"version":1}]
C ["1","3","face:a","seance:event:both",{}]
S ["1",null,"face:a","seance:patch",{"operations":[{"op":"replace","path":"/public","value":1}],"version":2}]
C ["1","4","face:a","seance:refresh",{}]
S ["1",null,"face:a","seance:change",{"state":{"public":1},"version":2}]`,
  },
  {
    name: "a refused event: a reply with the reason, the state as it was",
    ours: raw`
C ["1","1","board:refused","phx_join",{}]
S ["1","1","board:refused","phx_reply",{"response":{},"status":"ok"}]
S ["1",null,"board:refused","seance:change",{"state":{"n":0,"items":[]},"version":0}]
C ["1","2","board:refused","seance:event:refuse",{}]
S ["1","2","board:refused","phx_reply",{"response":{"reason":"no"},"status":"error"}]
C ["1","3","board:refused","seance:event:inc",{}]
S ["1",null,"board:refused","seance:patch",{"operations":[{"op":"replace","path":"/n","value":1}],"version":1}]`,
  },
  {
    name: "a shared topic: a rejoin goes on with state and version",
    ours: raw`
C ["1","1","board:kept","phx_join",{}]
S ["1","1","board:kept","phx_reply",{"response":{},"status":"ok"}]
S ["1",null,"board:kept","seance:change",{"state":{"n":0,"items":[]},"version":0}]
C ["1","2","board:kept","seance:event:inc",{}]
S ["1",null,"board:kept","seance:patch",{"operations":[{"op":"replace","path":"/n","value":1}],"version":1}]
C ["1","3","board:kept","seance:event:add",{"a/b":[null]}]
S ["1",null,"board:kept","seance:patch",{"operations":[{"op":"add","path":"/items/0","value":{"a/b":[null]}}],"version":2}]
C ["1","4","board:kept","seance:event:same",{}]
S ["1",null,"board:kept","seance:patch",{"operations":[],"version":3}]
C ["1","5","board:kept","seance:event:say",{"x":1}]
S ["1",null,"board:kept","seance:event",{"name":"said","detail":{"x":1},"type":"said","payload":{"x":1}}]
S ["1",null,"board:kept","seance:patch",{"operations":[],"version":4}]
C ["1","6","board:kept","seance:event:set",{"n":5,"items":[1]}]
S ["1",null,"board:kept","seance:patch",{"operations":[{"op":"replace","path":"","value":{"n":5,"items":[1]}}],"version":5}]
C ["1","7","board:kept","seance:event:raise",{}]
S ["1","1","board:kept","phx_error",{}]
C ["8","8","board:kept","phx_join",{}]
S ["8","8","board:kept","phx_reply",{"response":{},"status":"ok"}]
S ["8",null,"board:kept","seance:change",{"state":{"n":5,"items":[1]},"version":5}]
C ["8","9","board:kept","phx_leave",{}]
S ["8","9","board:kept","phx_reply",{"response":{},"status":"ok"}]
S ["8","8","board:kept","phx_close",{}]`,
  },
  {
    name: "a shared list by edits: toggle, remove, prepend",
    ours: raw`
C ["1","1","biglist:a","phx_join",{"n":3}]
S ["1","1","biglist:a","phx_reply",{"response":{},"status":"ok"}]
S ["1",null,"biglist:a","seance:change",{"state":{"items":[{"done":false,"id":1,"title":"item 1"},{"done":false,"id":2,"title":"item 2"},{"done":false,"id":3,"title":"item 3"}]},"version":0}]
C ["1","2","biglist:a","seance:event:toggle",{"i":2}]
S ["1",null,"biglist:a","seance:patch",{"operations":[{"op":"replace","path":"/items/2/done","value":true}],"version":1}]
C ["1","3","biglist:a","seance:event:remove",{"i":0}]
S ["1",null,"biglist:a","seance:patch",{"operations":[{"op":"remove","path":"/items/0"}],"version":2}]
C ["1","4","biglist:a","seance:event:prepend",{"id":"new"}]
S ["1",null,"biglist:a","seance:patch",{"operations":[{"op":"add","path":"/items/0","value":{"id":"new"}}],"version":3}]
# an edit that leads nowhere crashes
C ["1","5","biglist:a","seance:event:remove",{"i":7}]
S ["1","1","biglist:a","phx_error",{}]`,
  },
  {
    name: "crash: the new state holds a NaN",
    ours: raw`
C ["1","1","crash:a","phx_join",{}]
S ["1","1","crash:a","phx_reply",{"response":{},"status":"ok"}]
S ["1",null,"crash:a","seance:change",{"state":{"n":0},"version":0}]
C ["1","2","crash:a","seance:event:unencodable",{}]
S ["1","1","crash:a","phx_error",{}]
C ["1","3","crash:initunenc","phx_join",{}]
S ["1","3","crash:initunenc","phx_reply",{"response":{},"status":"ok"}]
S ["1","1","crash:initunenc","phx_error",{}]`,
  },
  {
    name: "malformed frame: a key __proto__ never gets into a state",
    ours: raw`
C ["1","1","any:a","phx_join",{"a":1}]
S ["1","1","any:a","phx_reply",{"response":{},"status":"ok"}]
S ["1",null,"any:a","seance:change",{"state":{"a":1},"version":0}]
C ["1","2","any:a","seance:event:set",{"__proto__":{"x":1}}]
S ["1","1","any:a","phx_error",{}]`,
  },
  {
    name: "the order of a version 1 rejoin: the close comes first",
    ours: raw`
GET vsn=1.0.0
C {"topic":"counter:a","event":"phx_join","payload":{},"ref":"1"}
S {"event":"phx_reply","payload":{"response":{},"status":"ok"},"ref":"1","topic":"counter:a"}
S {"event":"seance:change","payload":{"state":{"count":0},"version":0},"ref":null,"topic":"counter:a"}
C {"topic":"counter:a","event":"phx_join","payload":{},"ref":"2"}
S {"event":"phx_close","payload":{},"ref":null,"topic":"counter:a"}
S {"event":"phx_reply","payload":{"response":{},"status":"ok"},"ref":"2","topic":"counter:a"}
S {"event":"seance:change","payload":{"state":{"count":0},"version":0},"ref":null,"topic":"counter:a"}`,
  },
];
