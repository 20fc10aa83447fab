/*
 * long_poll_differences - in what this project answers otherwise than recorded in long_poll.txt, on purpose
 */
const raw = String.raw;

/* headers - of what is answered 200: why, and what is there instead; undefined: it is not there */
export const headers = {
  "cache-control": { why: "no cache is to keep it at all", ours: "no-store" },
  "access-control-allow-origin": { why: "the list of origins decides, where the reference lets everybody in", ours: undefined },
  "access-control-allow-headers": { why: "those that clients send, whatever is asked for", ours: "Content-Type, X-Phoenix-AuthToken, X-Phoenix-Longpoll-Token" },
  "access-control-allow-methods": { why: "methods are in capitals", ours: "GET, POST, OPTIONS" },
  "content-length": { why: "nginx may send it in chunks, and a token has another length", ours: undefined },
  vary: { why: "what depends on the origin says so", ours: "Origin" },
};

const malformed = "a malformed frame ends the session at once, as it closes a WebSocket; a token whose session is gone gets 500, on " +
  "which all versions of phoenix.js begin anew, where 410 leaves 1.6 and 1.7 as they are; an empty body is no frame";

/*
 * Each entry: the case's name in long_poll.txt, why, and the whole case as it goes here, in the same format.
 *
 *   slow    what it takes is too long to be replayed each time
 */
export const differences = [
  {
    name: "longpoll: two GETs at once with the same token",
    why: "a token says up to where the client was told, so whatever asks with it is told the same",
    ours: raw`
C& GET /seance/longpoll?vsn=2.0.0&token=<TOKEN1>
C POST /seance/longpoll?vsn=2.0.0&token=<TOKEN1>
C   content-type: application/json
C   body: "[\"1\",\"23\",\"counter:a\",\"seance:event:inc\",{}]"
S HTTP 200 (<1 s)
S   body: {"status":200}

C GET /seance/longpoll?vsn=2.0.0&token=<TOKEN1>
S HTTP 200 (<1 s)
S   body: {"messages":["[\"1\",null,\"counter:a\",\"seance:patch\",{\"operations\":[{\"op\":\"replace\",\"path\":\"/count\",\"value\":3}],\"version\":3}]"],"status":200,"token":"<OTHER>"}

S& HTTP 200 (<1 s)
S   body: {"messages":["[\"1\",null,\"counter:a\",\"seance:patch\",{\"operations\":[{\"op\":\"replace\",\"path\":\"/count\",\"value\":3}],\"version\":3}]"],"status":200,"token":"<TOKEN1>"}
`,
  },
  {
    name: "longpoll: malformed bodies (a fresh session each)",
    why: malformed,
    ours: ["application/json|hello", "application/x-ndjson|hello", 'application/json|{\\"a\\":1}', "application/x-ndjson|[1]"].map((one, i) => {
      const [type, body] = one.split("|");
      const token = `<TOKEN${4 + i}>`;
      return raw`
C GET /seance/longpoll?vsn=2.0.0
S HTTP 200 (<1 s)
S   body: {"messages":[],"status":410,"token":"<TOKEN1>"}
# that token is ${token} below

C POST /seance/longpoll?vsn=2.0.0&token=${token}
C   content-type: ${type}
C   body: "${body}"
S HTTP 200 (<1 s)
S   body: {"status":500}

C GET /seance/longpoll?vsn=2.0.0&token=${token}
S HTTP 200 (<1 s)
S   body: {"status":500}

C POST /seance/longpoll?vsn=2.0.0&token=${token}
C   content-type: application/json
C   body: "[null,\"1\",\"phoenix\",\"heartbeat\",{}]"
S HTTP 200 (<1 s)
S   body: {"status":500}
`;
    }).join("") + raw`
C GET /seance/longpoll?vsn=2.0.0
S HTTP 200 (<1 s)
S   body: {"messages":[],"status":410,"token":"<TOKEN1>"}
# that token is <TOKEN9> below

C POST /seance/longpoll?vsn=2.0.0&token=<TOKEN9>
C   content-type: application/json
C   body: ""
S HTTP 200 (<1 s)
S   body: {"status":200}

C POST /seance/longpoll?vsn=2.0.0&token=<TOKEN9>
C   content-type: application/x-ndjson
C   body: "\n[null,\"1\",\"phoenix\",\"heartbeat\",{}]\n\r\n"
S HTTP 200 (<1 s)
S   body: {"status":200}

C GET /seance/longpoll?vsn=2.0.0&token=<TOKEN9>
S HTTP 200 (<1 s)
S   body: {"messages":["[null,\"1\",\"phoenix\",\"phx_reply\",{\"response\":{},\"status\":\"ok\"}]"],"status":200,"token":"<TOKEN9>"}
`,
  },
  {
    name: "longpoll: a body over 8,000,000 bytes",
    why: "nginx's client_max_body_size, 1 MiB, is the limit; 500 has the clients begin anew, where a page of nginx has them poll no more",
    ours: raw`
C GET /seance/longpoll?vsn=2.0.0
S HTTP 200 (<1 s)
S   body: {"messages":[],"status":410,"token":"<TOKEN1>"}
# that token is <TOKEN13> below

C POST /seance/longpoll?vsn=2.0.0&token=<TOKEN13>
C   content-type: application/json
C   body of 1048577 bytes: "[\"1\",\"1\",\"any:a\",\"phx_join\",{\"x\":\"…\"}]"
S HTTP 200 (<1 s)
S   cache-control: no-store
S   content-type: application/json; charset=utf-8
S   body: {"status":500}

C POST /seance/longpoll?vsn=2.0.0&token=<TOKEN13>
C   content-type: application/json
C   body of 1048576 bytes: "[\"1\",\"1\",\"any:a\",\"phx_join\",{\"x\":\"…\"}]"
S HTTP 200 (<1 s)
S   body: {"status":200}
`,
  },
  {
    name: "longpoll: session idle (no GET) for 31 s, then a POST and a GET with its token",
    why: "whoever posts is there: a session ends when for the grace time, 60 s, nothing has come of it",
    ours: raw`
C GET /seance/longpoll?vsn=2.0.0
S HTTP 200 (<1 s)
S   body: {"messages":[],"status":410,"token":"<TOKEN1>"}
# that token is <TOKEN14> below

C POST /seance/longpoll?vsn=2.0.0&token=<TOKEN14>
C   content-type: application/json
C   body: "[\"1\",\"1\",\"counter:a\",\"phx_join\",{}]"
S HTTP 200 (<1 s)
S   body: {"status":200}

# (31 s later)
C POST /seance/longpoll?vsn=2.0.0&token=<TOKEN14>
C   content-type: application/json
C   body: "[\"1\",\"2\",\"counter:a\",\"seance:event:inc\",{}]"
S HTTP 200 (<1 s)
S   body: {"status":200}
`,
    slow: "31 s",
  },
];
