/* Disk faults for a real process, by LD_PRELOAD (design: reliability.md, layer 5).
 *
 * DISK_FAULTS_CONTROL names a file of 4,096 bytes that the test writes and this library maps: what it says counts from
 * the very next call. Only descriptors whose path contains `fragment` are touched. An operation of the mask succeeds
 * `countdown` times and fails then, every time, until the mask is cleared. A sync is fsync, fdatasync, or a write on a
 * descriptor with O_SYNC or O_DSYNC; a sync that fails has written its bytes to the page cache, as a kernel does.
 *
 * With KILL in the mask nothing fails: the process and its children (one process group: local_cluster.py) are killed
 * there, as by kill -9: a member's child may be who calls. RENAME and UNLINK are for that alone
 * and look at the paths they are given (of a rename the new one); RENAMED is right after a rename.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

enum { READ = 1, WRITE = 2, SYNC = 4, SHORT = 8, SLOW = 16, KILL = 32, RENAME = 64, RENAMED = 128, UNLINK = 256 };

struct control {
  volatile uint32_t mask;
  volatile uint32_t error;
  volatile int64_t countdown;
  volatile int64_t hits;
  volatile uint32_t delay_us;
  uint32_t unused;
  char fragment[1024];
};

static struct control *control;

__attribute__((constructor)) static void start(void) {
  const char *path = getenv("DISK_FAULTS_CONTROL");
  if (path == NULL) return;
  int fd = open(path, O_RDWR | O_CLOEXEC);
  if (fd < 0) return;
  void *found = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (found != MAP_FAILED) control = found;
  close(fd);
}

static int counts(const char *path) {
  if (strstr(path, control->fragment) == NULL) return 0;
  if (__sync_sub_and_fetch(&control->countdown, 1) >= 0) return 0;
  __sync_add_and_fetch(&control->hits, 1);
  if (control->mask & KILL) {
    kill(0, SIGKILL);
    for (;;) pause();
  }
  return 1;
}

/* The path of a descriptor; 0 if it has none. */
static int path_of(int fd, char *path, size_t room) {
  char link[64];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t size = readlink(link, path, room - 1);
  if (size < 0) return 0;
  path[size] = 0;
  return 1;
}

/* Does this call fail (or get slower)? Only then is the descriptor's path looked up. */
static int hit(int fd, uint32_t operation) {
  if (control == NULL || !(control->mask & operation)) return 0;
  char path[1024];
  return path_of(fd, path, sizeof path) && counts(path);
}

static void named(const char *path, uint32_t operation) {
  if (control != NULL && (control->mask & operation)) counts(path);
}

static int fail(void) {
  errno = (int)control->error;
  return -1;
}

static int synchronous(int fd) {
  int flags = fcntl(fd, F_GETFL);
  return flags >= 0 && (flags & O_DSYNC);
}

#define REAL(type, name, ...) \
  static type (*real)(__VA_ARGS__); \
  if (real == NULL) real = (type(*)(__VA_ARGS__))dlsym(RTLD_NEXT, name)

#define WRITE_BODY(call, short_call, size) \
  if (hit(fd, WRITE)) return fail(); \
  if ((size) > 1 && hit(fd, SHORT)) return short_call; \
  if (control != NULL && (control->mask & SYNC) && synchronous(fd) && hit(fd, SYNC)) { \
    if (call < 0) return -1; \
    return fail(); \
  } \
  if (control != NULL && (control->mask & SLOW) && synchronous(fd) && hit(fd, SLOW)) usleep(control->delay_us); \
  return call;

ssize_t write(int fd, const void *data, size_t size) {
  REAL(ssize_t, "write", int, const void *, size_t);
  WRITE_BODY(real(fd, data, size), real(fd, data, size / 2), size)
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t at) {
  REAL(ssize_t, "pwrite", int, const void *, size_t, off_t);
  WRITE_BODY(real(fd, data, size, at), real(fd, data, size / 2, at), size)
}

ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at) {
  REAL(ssize_t, "pwrite64", int, const void *, size_t, off64_t);
  WRITE_BODY(real(fd, data, size, at), real(fd, data, size / 2, at), size)
}

ssize_t writev(int fd, const struct iovec *parts, int count) {
  REAL(ssize_t, "writev", int, const struct iovec *, int);
  WRITE_BODY(real(fd, parts, count), real(fd, parts, 1), (size_t)(count > 1 ? 2 : 0))
}

ssize_t read(int fd, void *data, size_t size) {
  REAL(ssize_t, "read", int, void *, size_t);
  return hit(fd, READ) ? fail() : real(fd, data, size);
}

ssize_t pread(int fd, void *data, size_t size, off_t at) {
  REAL(ssize_t, "pread", int, void *, size_t, off_t);
  return hit(fd, READ) ? fail() : real(fd, data, size, at);
}

ssize_t pread64(int fd, void *data, size_t size, off64_t at) {
  REAL(ssize_t, "pread64", int, void *, size_t, off64_t);
  return hit(fd, READ) ? fail() : real(fd, data, size, at);
}

int fsync(int fd) {
  REAL(int, "fsync", int);
  if (hit(fd, SLOW)) usleep(control->delay_us);
  if (hit(fd, SYNC)) return fail();
  return real(fd);
}

int fdatasync(int fd) {
  REAL(int, "fdatasync", int);
  if (hit(fd, SLOW)) usleep(control->delay_us);
  if (hit(fd, SYNC)) return fail();
  return real(fd);
}

int fallocate(int fd, int mode, off_t at, off_t size) {
  REAL(int, "fallocate", int, int, off_t, off_t);
  return hit(fd, WRITE) ? fail() : real(fd, mode, at, size);
}

int rename(const char *from, const char *to) {
  REAL(int, "rename", const char *, const char *);
  named(to, RENAME);
  int result = real(from, to);
  named(to, RENAMED);
  return result;
}

int unlink(const char *path) {
  REAL(int, "unlink", const char *);
  named(path, UNLINK);
  return real(path);
}

int unlinkat(int directory, const char *name, int flags) {
  REAL(int, "unlinkat", int, const char *, int);
  char path[2048];
  if (control != NULL && (control->mask & UNLINK) && path_of(directory, path, 1024)) {
    strncat(path, "/", 2);
    strncat(path, name, 1000);
    counts(path);
  }
  return real(directory, name, flags);
}
