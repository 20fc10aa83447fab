/*
 * blocker - an HTTP proxy that lets no WebSocket through, as there are in some offices
 *
 *     const blocker = await Blocker.open(system.port, "refuse");    // or "swallow": the handshake is never answered
 *     ... new Socket(`${blocker.ws}/socket`, { longPollFallbackMs: 300 }) ...
 *     blocker.handshakes                                            // so many it has seen
 *     blocker.close();
 */
import { createServer, request } from "node:http";

export class Blocker {
  handshakes = 0;
  #server;

  static open(port, how) {
    const blocker = new Blocker();
    const server = (blocker.#server = createServer((asked, answer) => {
      const { method, url: path, headers } = asked;
      const passed = request({ host: "127.0.0.1", port, method, path, headers, agent: false }, (answered) => {
        answer.writeHead(answered.statusCode, answered.headers);
        answered.pipe(answer);
      });
      passed.on("error", () => answer.destroy());
      answer.on("close", () => passed.destroy());
      asked.pipe(passed);
    }));
    server.on("upgrade", (asked, socket) => {
      blocker.handshakes++;
      socket.on("error", () => {});
      if (how === "refuse") socket.end("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    });
    return new Promise((resolve, reject) => {
      server.once("error", reject).listen(0, "127.0.0.1", () => {
        blocker.url = `http://127.0.0.1:${server.address().port}`;
        blocker.ws = blocker.url.replace("http", "ws");
        resolve(blocker);
      });
    });
  }

  close() {
    this.#server.close();
    this.#server.closeAllConnections();
  }
}
