/*
 * xml_http_request - what phoenix.js asks by, which Node has not; to be imported before it
 */
import xhr2 from "xhr2";

globalThis.self = globalThis; // where phoenix.js looks
globalThis.XMLHttpRequest = xhr2.XMLHttpRequest;
