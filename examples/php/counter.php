<?php
// A counter for all: "+" adds one, and every answer is the number.  A message that comes again, because
// its worker died before it had answered, counts once: the answer is kept beside the number.
$socket = $_SERVER['SEANCE_SOCKET'] ?? null;
if ($socket === null) {
	header('X-Accel-Redirect: /_hold/counter/websocket/' . bin2hex(random_bytes(16)));
	exit;
}
$event = file_get_contents('php://input');
$message = $_SERVER['SEANCE_MESSAGE'];

$db = new PDO('sqlite:' . __DIR__ . '/run/counter.db');
$db->exec('BEGIN IMMEDIATE');
$db->exec('CREATE TABLE IF NOT EXISTS counter (n INTEGER)');
$db->exec('CREATE TABLE IF NOT EXISTS answers (socket TEXT PRIMARY KEY, message TEXT, n INTEGER)');
$n = (int) $db->query('SELECT n FROM counter')->fetchColumn();
$given = $db->prepare('SELECT n FROM answers WHERE socket = ? AND message = ?');
$given->execute([$socket, $message]);
if (preg_match('/^(CLOSE|DISCONNECT)/', $event)) {
	$db->prepare('DELETE FROM answers WHERE socket = ?')->execute([$socket]);
} elseif (($answer = $given->fetchColumn()) !== false) {
	$n = $answer;
} else {
	$n += $event === "TEXT 1\r\n+\r\n" ? 1 : 0;
	$db->exec("DELETE FROM counter; INSERT INTO counter VALUES ($n)");
	$db->prepare('REPLACE INTO answers VALUES (?, ?, ?)')->execute([$socket, $message, $n]);
}
$db->exec('COMMIT');
header('Content-Type: application/websocket-events');
printf("TEXT %x\r\n%s\r\n", strlen($n), $n);
