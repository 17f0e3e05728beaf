/* Lets the n-th write below a folder fail, or ends the process in the middle of it.
 *
 *     cc -shared -fPIC -O1 -o failing_writes.so scripts/failing_writes.c -ldl
 *     LD_PRELOAD=./failing_writes.so python ...
 *
 * Nothing fails until fail_write is called (by ctypes, say). A full disk stays full: with `lasting`
 * all calls from the n-th on fail. Calls that change what is on the disk count: writing, syncing,
 * truncating, renaming, linking, making folders. What the C library writes by itself when a buffered
 * stream is flushed cannot be seen here; the call that filled the buffer is. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static char folder[PATH_MAX];
static long at, failure;
static int lasting;
static double share;
static atomic_long count;
static char struck[PATH_MAX + 32];

/* failure: an errno, or -1 to end the process after `share` of the bytes are written. */
void fail_write(const char *below, long number, long with, int stays, double part) {
  strncpy(folder, below, sizeof folder - 1);
  at = number, failure = with, lasting = stays, share = part;
  struck[0] = 0;
  atomic_store(&count, 0);
}

long writes_seen(void) { return atomic_load(&count); }
const char *write_struck(void) { return struck; }

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static int below_path(const char *path) {
  char whole[PATH_MAX * 2];
  if (!folder[0] || !path) return 0;
  if (path[0] != '/') {
    char here[PATH_MAX];
    if (!getcwd(here, sizeof here)) return 0;
    snprintf(whole, sizeof whole, "%s/%s", here, path);
    path = whole;
  }
  return strncmp(path, folder, strlen(folder)) == 0;
}

static int below_fd(int fd, char *path) {
  char link[64];
  if (!folder[0]) return 0;
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t length = readlink(link, path, PATH_MAX - 1);
  if (length <= 0) return 0;
  path[length] = 0;
  return below_path(path);
}

/* Counts a call; 0 to let it be, 1 to let it fail, 2 to end the process in it. */
static int strikes(const char *call, const char *path) {
  long number = atomic_fetch_add(&count, 1) + 1;
  if (!at || number < at || (number > at && !lasting)) return 0;
  if (number == at) snprintf(struck, sizeof struck, "%s %s", call, path);
  if (failure < 0) return 2;
  errno = (int)failure;
  return 1;
}

static void end(void) { kill(getpid(), SIGKILL); }

ssize_t write(int fd, const void *data, size_t size) {
  char path[PATH_MAX];
  if (below_fd(fd, path)) {
    int what = strikes("write", path);
    if (what == 1) return -1;
    if (what == 2) REAL(write)(fd, data, (size_t)(share * (double)size)), end();
  }
  return REAL(write)(fd, data, size);
}

ssize_t pwrite64(int fd, const void *data, size_t size, off64_t place) {
  char path[PATH_MAX];
  if (below_fd(fd, path)) {
    int what = strikes("pwrite", path);
    if (what == 1) return -1;
    if (what == 2) REAL(pwrite64)(fd, data, (size_t)(share * (double)size), place), end();
  }
  return REAL(pwrite64)(fd, data, size, place);
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t place) {
  return pwrite64(fd, data, size, place);
}

ssize_t writev(int fd, const struct iovec *parts, int number) {
  char path[PATH_MAX];
  if (below_fd(fd, path)) {
    int what = strikes("writev", path);
    if (what == 1) return -1;
    if (what == 2) end();
  }
  return REAL(writev)(fd, parts, number);
}

size_t fwrite(const void *data, size_t size, size_t number, FILE *stream) {
  char path[PATH_MAX];
  if (below_fd(fileno(stream), path)) {
    int what = strikes("fwrite", path);
    if (what == 1) return 0;
    if (what == 2) {
      REAL(fwrite)(data, size, (size_t)(share * (double)number), stream);
      fflush(stream), end();
    }
  }
  return REAL(fwrite)(data, size, number, stream);
}

#define BY_FD(name, declared, ...)                          \
  int name declared {                                       \
    char path[PATH_MAX];                                    \
    if (below_fd(fd, path)) {                               \
      int what = strikes(#name, path);                      \
      if (what == 1) return -1;                             \
      if (what == 2) end();                                 \
    }                                                       \
    return REAL(name)(__VA_ARGS__);                         \
  }
BY_FD(fsync, (int fd), fd)
BY_FD(fdatasync, (int fd), fd)
BY_FD(ftruncate64, (int fd, off64_t size), fd, size)

#define BY_PATH(name, which, declared, ...)                 \
  int name declared {                                       \
    if (below_path(which)) {                                \
      int what = strikes(#name, which);                     \
      if (what == 1) return -1;                             \
      if (what == 2) end();                                 \
    }                                                       \
    return REAL(name)(__VA_ARGS__);                         \
  }
BY_PATH(rename, to, (const char *from, const char *to), from, to)
BY_PATH(link, to, (const char *from, const char *to), from, to)
BY_PATH(symlink, to, (const char *from, const char *to), from, to)
BY_PATH(mkdir, path, (const char *path, mode_t mode), path, mode)
