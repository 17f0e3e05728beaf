/* Lets the n-th write below a folder fail, or ends the process in the middle of it.
 *
 *     cc -shared -fPIC -O1 -o failing_writes.so scripts/failing_writes.c -ldl
 *     LD_PRELOAD=./failing_writes.so python ...
 *
 * Nothing fails until fail_write is called (by ctypes, say). A full disk stays full: with `lasting`
 * all calls from the n-th on fail. Calls that change what is on the disk count: writing, syncing,
 * truncating, renaming, linking, making folders. What the C library writes by itself when a buffered
 * stream is flushed cannot be seen here; the call that filled the buffer is. With EROFS nothing below
 * the folder can be opened for writing, removed or touched either, from that call on. step_clock has
 * the n-th write set the clock of the day back instead, for the process's own code. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

static char folder[PATH_MAX];
static long at, failure;
static int lasting;
static double share;
static atomic_long count, behind;
static long step;
static char struck[PATH_MAX + 32];

/* failure: an errno, or -1 to end the process after `share` of the bytes are written. */
void fail_write(const char *below, long number, long with, int stays, double part) {
  strncpy(folder, below, sizeof folder - 1);
  at = number, failure = with, lasting = stays, share = part;
  struck[0] = 0, step = 0;
  atomic_store(&count, 0), atomic_store(&behind, 0);
}

/* Have the clock of the day be so many seconds behind from the n-th write on. */
void step_clock(const char *below, long number, long seconds) {
  fail_write(below, number, 0, 0, 0);
  step = seconds;
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
  if (!struck[0]) snprintf(struck, sizeof struck, "%s %s", call, path);
  if (step) {
    atomic_store(&behind, step);
    return 0;
  }
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

/* What a read-only file system refuses beside writing. It is not counted: others do not. */
static int denied(const char *call, const char *path) {
  if (failure != EROFS || !at || atomic_load(&count) < at - 1 || !below_path(path)) return 0;
  if (!struck[0]) snprintf(struck, sizeof struck, "%s %s", call, path);
  errno = EROFS;
  return 1;
}

/* A path that is relative to an open folder, as rmtree has it. */
static int denied_at(const char *call, int fd, const char *path) {
  char base[PATH_MAX], whole[PATH_MAX * 2];
  if (failure != EROFS || fd == AT_FDCWD || path[0] == '/') return denied(call, path);
  if (!below_fd(fd, base)) return 0;
  snprintf(whole, sizeof whole, "%s/%s", base, path);
  return denied(call, whole);
}

/* O_TMPFILE holds the bit of O_DIRECTORY. */
#define MAKES(flags) (((flags) & O_CREAT) || ((flags) & O_TMPFILE) == O_TMPFILE)
_Static_assert(!MAKES(O_RDONLY | O_DIRECTORY) && MAKES(O_WRONLY | O_CREAT) &&
                   MAKES(O_RDWR | O_TMPFILE), "a mode is read only where one is given");
#define OPENS(flags) ((flags) & (O_WRONLY | O_RDWR | O_CREAT | O_TRUNC))
#define MODE_OF(flags, last)      \
  mode_t mode = 0;                \
  if (MAKES(flags)) {             \
    va_list more;                 \
    va_start(more, last);         \
    mode = va_arg(more, mode_t);  \
    va_end(more);                 \
  }
#define OPEN(name)                                          \
  int name(const char *path, int flags, ...) {              \
    MODE_OF(flags, flags)                                   \
    if (OPENS(flags) && denied(#name, path)) return -1;     \
    return REAL(name)(path, flags, mode);                   \
  }
OPEN(open)
OPEN(open64)
#define OPENAT(name)                                               \
  int name(int fd, const char *path, int flags, ...) {             \
    MODE_OF(flags, flags)                                          \
    if (OPENS(flags) && denied_at(#name, fd, path)) return -1;     \
    return REAL(name)(fd, path, flags, mode);                      \
  }
OPENAT(openat)
OPENAT(openat64)
#define FOPEN(name)                                                       \
  FILE *name(const char *path, const char *mode) {                        \
    if (strpbrk(mode, "wa+") && denied(#name, path)) return NULL;         \
    return REAL(name)(path, mode);                                        \
  }
FOPEN(fopen)
FOPEN(fopen64)
int unlink(const char *path) { return denied("unlink", path) ? -1 : REAL(unlink)(path); }
int rmdir(const char *path) { return denied("rmdir", path) ? -1 : REAL(rmdir)(path); }
int unlinkat(int fd, const char *path, int flags) {
  return denied_at("unlinkat", fd, path) ? -1 : REAL(unlinkat)(fd, path, flags);
}
int utimensat(int fd, const char *path, const struct timespec times[2], int flags) {
  return denied_at("utimensat", fd, path) ? -1 : REAL(utimensat)(fd, path, times, flags);
}

int clock_gettime(clockid_t which, struct timespec *now) {
  int code = REAL(clock_gettime)(which, now);
  if (!code && (which == CLOCK_REALTIME || which == CLOCK_REALTIME_COARSE))
    now->tv_sec -= atomic_load(&behind);
  return code;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
  int code = REAL(gettimeofday)(now, zone);
  if (!code) now->tv_sec -= atomic_load(&behind);
  return code;
}

time_t time(time_t *place) {
  time_t now = REAL(time)(NULL) - atomic_load(&behind);
  if (place) *place = now;
  return now;
}
