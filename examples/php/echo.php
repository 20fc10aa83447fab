<?php
// An echo: what a client sends comes back; "bye" closes the socket.
if (!isset($_SERVER['SEANCE_SOCKET'])) {    // the module alone can send it: somebody asks for a socket
	$origin = $_SERVER['HTTP_ORIGIN'] ?? null;
	if ($origin !== null && $origin !== 'http://' . $_SERVER['HTTP_HOST']) {
		http_response_code(403);
		exit;
	}
	$offered = preg_split('/\s*,\s*/', $_SERVER['HTTP_SEC_WEBSOCKET_PROTOCOL'] ?? '');
	$protocol = in_array('echo', $offered, true) ? '?protocol=echo' : '';
	header('X-Accel-Redirect: /_hold/echo/websocket/' . bin2hex(random_bytes(16)) . $protocol);
	exit;
}

function event(string $name, string $bytes): string
{
	return sprintf("%s %x\r\n%s\r\n", $name, strlen($bytes), $bytes);
}

header('Content-Type: application/websocket-events');
[$line, $rest] = explode("\r\n", file_get_contents('php://input'), 2);
[$name] = explode(' ', $line);
$bytes = substr($rest, 0, -2);
if ($bytes === 'bye') {
	echo event('TEXT', 'good'), event('CLOSE', pack('n', 1000) . 'bye');
} elseif ($name === 'TEXT' || $name === 'BINARY') {
	echo event($name, $bytes);
}                                           // OPEN, CLOSE, DISCONNECT: nothing to say
