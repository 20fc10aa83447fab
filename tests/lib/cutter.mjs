/*
 * cutter - a TCP proxy that cuts its connections, as a bad network does
 *
 *     const cutter = await Cutter.open(system.port);
 *     ... connect(`${cutter.url}/socket`) ...
 *     cutter.cut();                 // all connections end now
 *     await cutter.swallow();       // what is sent arrives; of the answers nothing; then all connections end
 *     cutter.count("seance:change") // how often this came from the server since watch() was called
 *     cutter.close();
 */
import { connect, createServer } from "node:net";
import { until } from "./wait.mjs";

export class Cutter {
  #pairs = new Set();
  #server;
  #deaf = false; // what the server says is swallowed
  #swallowed = 0; // bytes
  #came = "";

  static open(port) {
    const cutter = new Cutter();
    cutter.#server = createServer((client) => cutter.#join(client, port));
    return new Promise((resolve, reject) => {
      cutter.#server.once("error", reject).listen(0, "127.0.0.1", () => {
        cutter.url = `http://127.0.0.1:${cutter.#server.address().port}`;
        resolve(cutter);
      });
    });
  }

  #join(client, port) {
    const server = connect(port, "127.0.0.1");
    const pair = { client, server };
    this.#pairs.add(pair);
    client.on("data", (bytes) => server.write(bytes));
    server.on("data", (bytes) => {
      if (this.#deaf) return void (this.#swallowed += bytes.length);
      this.#came += bytes.toString("latin1");
      client.write(bytes);
    });
    for (const socket of [client, server]) socket.on("error", () => {}).on("close", () => this.#end(pair));
  }

  #end(pair) {
    this.#pairs.delete(pair);
    pair.client.destroy();
    pair.server.destroy();
  }

  cut() {
    for (const pair of this.#pairs) this.#end(pair);
  }

  /* swallow - once something has been swallowed, all connections end */
  async swallow() {
    this.#swallowed = 0;
    this.#deaf = true;
    await until(() => this.#swallowed > 0, "an answer to swallow", 15000, 2);
    this.#deaf = false;
    this.cut();
  }

  watch() {
    this.#came = "";
  }

  count(text) {
    return this.#came.split(text).length - 1;
  }

  close() {
    this.cut();
    this.#server.close();
  }
}
