#include "run_dir.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "log.h"

#define BACKLOG     4096 /* as many may ask at once when what they wait for is there */
#define STALE_TRIES 120  /* of 50 ms: a worker whose supervisor was killed drains for 5 s */
#define PATH_SIZE   4096

static bool
path_of(const struct run_dir *run, const char *name, char *path)
{
	int len = snprintf(path, PATH_SIZE, "%s/%s", run->dir, name);

	return len > 0 && len < PATH_SIZE;
}

static bool
socket_address(const struct run_dir *run, const char *name, struct sockaddr_un *address)
{
	char path[PATH_SIZE];

	memset(address, 0, sizeof *address);
	address->sun_family = AF_UNIX;
	if (!path_of(run, name, path) || strlen(path) >= sizeof address->sun_path) {
		log_line(
			"the path %s/%s is longer than the %zu bytes that a unix socket may have: choose a shorter --dir",
			run->dir, name, sizeof address->sun_path - 1);
		return false;
	}
	memcpy(address->sun_path, path, strlen(path) + 1);
	return true;
}

/* --- the lock --- */

static void
say_running(int fd)
{
	char pid[16] = "";
	ssize_t len = pread(fd, pid, sizeof pid - 1, 0);

	pid[len > 0 ? strcspn(pid, "\n") : 0] = '\0';
	log_line("it runs already (process %s)", pid);
}

static bool
pid_write(int fd, pid_t pid)
{
	return ftruncate(fd, 0) == 0 && dprintf(fd, "%d\n", (int)pid) > 0;
}

/* Is path still the file that fd has locked?  A supervisor that ends removes it. */
static bool
same_file(int fd, const char *path)
{
	struct stat opened;
	struct stat named;

	return fstat(fd, &opened) == 0 && stat(path, &named) == 0 && opened.st_ino == named.st_ino &&
	       opened.st_dev == named.st_dev;
}

static bool
lock(struct run_dir *run)
{
	char path[PATH_SIZE];

	if (!path_of(run, "supervisor.pid", path))
		return false;
	for (;;) {
		run->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
		if (run->lock_fd < 0) {
			log_line("%s: %s", path, strerror(errno));
			return false;
		}
		if (flock(run->lock_fd, LOCK_EX | LOCK_NB) != 0) {
			say_running(run->lock_fd);
			break;
		}
		if (same_file(run->lock_fd, path)) {
			if (pid_write(run->lock_fd, getpid()))
				return true;
			log_line("%s: %s", path, strerror(errno));
			break;
		}
		close(run->lock_fd);
	}
	close(run->lock_fd);
	run->lock_fd = -1;
	return false;
}

/* --- sockets --- */

static bool
somebody_listens(const struct sockaddr_un *address)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	bool listens =
		connect(fd, (const struct sockaddr *)address, sizeof *address) == 0 || errno == EAGAIN;

	close(fd);
	return listens;
}

/* Removes a socket that was left behind; false when it is in use. */
static bool
stale_remove(const struct sockaddr_un *address)
{
	const struct timespec pause = {.tv_nsec = 50000000};

	for (int i = 0; somebody_listens(address); i++) {
		if (i == STALE_TRIES)
			return false;
		nanosleep(&pause, NULL);
	}
	return unlink(address->sun_path) == 0 || errno == ENOENT;
}

static int
listen_at(const struct sockaddr_un *address, int mode)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	mode_t before = umask(0777 & ~(mode_t)mode);
	bool bound = fd >= 0 && bind(fd, (const struct sockaddr *)address, sizeof *address) == 0;
	int error = errno;

	umask(before);
	errno = error;
	if (bound && listen(fd, BACKLOG) == 0)
		return fd;
	log_line("%s: %s", address->sun_path, strerror(errno));
	if (fd >= 0)
		close(fd);
	return -1;
}

static int
socket_open(const struct run_dir *run, const char *name, int mode)
{
	struct sockaddr_un address;

	if (!socket_address(run, name, &address))
		return -1;
	if (!stale_remove(&address)) {
		log_line("%s is in use by another program", address.sun_path);
		return -1;
	}
	return listen_at(&address, mode);
}

/* --- life --- */

static void
remove_name(const struct run_dir *run, const char *name)
{
	char path[PATH_SIZE];

	if (path_of(run, name, path))
		unlink(path);
}

bool
run_dir_open(struct run_dir *run, const char *dir, int mode)
{
	struct sockaddr_un unused;

	*run = (struct run_dir){.dir = dir, .lock_fd = -1, .program_fd = -1, .link_fd = -1};
	if (!socket_address(run, "program.sock", &unused))
		return false;
	if (mkdir(dir, 0755) != 0 && errno != EEXIST) {
		log_line("%s: %s", dir, strerror(errno));
		return false;
	}
	if (!lock(run))
		return false;
	run->program_fd = socket_open(run, "program.sock", mode);
	if (run->program_fd >= 0)
		run->link_fd = socket_open(run, "link.sock", mode);
	if (run->link_fd >= 0)
		return true;
	run_dir_close(run);
	return false;
}

void
run_dir_serves(const struct run_dir *run, pid_t worker)
{
	char path[PATH_SIZE];
	char new_path[PATH_SIZE];
	bool written = false;
	int fd;

	if (!path_of(run, "worker.pid", path) || !path_of(run, "worker.pid.new", new_path))
		return;
	fd = open(new_path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	if (fd >= 0) {
		written = pid_write(fd, worker);
		close(fd);
	}
	if (!written || rename(new_path, path) != 0)
		log_line("%s: %s", path, strerror(errno));
}

void
run_dir_close(struct run_dir *run)
{
	if (run->program_fd >= 0) {
		close(run->program_fd);
		remove_name(run, "program.sock");
	}
	if (run->link_fd >= 0) {
		close(run->link_fd);
		remove_name(run, "link.sock");
	}
	if (run->lock_fd >= 0) {
		remove_name(run, "worker.pid");
		remove_name(run, "supervisor.pid");
		close(run->lock_fd);
	}
}
