/*
 * site - an nginx beside the one of a system, with the includes that a site uses, and the same program
 *
 *     const nginx = await startNginx({ conf: siteOf(system, { listen: (port) => `listen 127.0.0.1:${port} http2;` }) });
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { modulePath } from "../module/nginx.mjs";
import { tree } from "../system.mjs";

/* includeOf - the text of nginx/NAME, for the folder of a system */
export const includeOf = (system, name) =>
  readFileSync(join(tree, `nginx/${name}`), "utf8")
    .replaceAll("/var/lib/seance", system.dir)
    .replaceAll(/include (seance-params.conf);/g, (_, params) => readFileSync(join(tree, `nginx/${params}`), "utf8"));

/* siteOf - http: more for that block; change: a function of an include's text */
export const siteOf = (system, { listen = (port) => `listen 127.0.0.1:${port};`, http = () => "", change = (text) => text }) => (port, dir) => `
    load_module ${modulePath};
    daemon off; pid ${dir}/nginx.pid; error_log ${dir}/error.log info; user root;
    events {}
    http {
      access_log off;
      client_body_temp_path ${dir}/t1; proxy_temp_path ${dir}/t2; fastcgi_temp_path ${dir}/t3; uwsgi_temp_path ${dir}/t4; scgi_temp_path ${dir}/t5;
      ${change(includeOf(system, "seance-http.conf"), dir)}
      server { ${listen(port)} ${change(includeOf(system, "seance-server.conf"), dir)} }
      ${http(port, dir)}
    }`;
