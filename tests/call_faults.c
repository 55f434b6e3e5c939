/* Preloaded into a process: its n-th call of the system, counted from when the faults are armed, fails, or writes less
   than it was given, or does not come to pass because the process is killed just before.  Counted are the calls that
   writing a file may make, or its writes alone if it is they that shall fall short. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

/* FULL: a write takes half, and every later one nothing, as on a disk that is full */
enum { KILL = 1, FAIL = 2, SHORT = 3, FULL = 4 };

static int armed, kind, number, code, calls, full;
static const char *struck;

void arm_faults(int with_kind, int at_number, int with_code)
{
    kind = with_kind, number = at_number, code = with_code, calls = full = 0, struck = "", armed = 1;
}

int disarm_faults(void)
{
    armed = 0;
    return calls;
}

/* The name of the call that the fault has met, empty if none. */
const char *struck_call(void)
{
    return struck;
}

static int strikes(const char *name, int writes)
{
    if (!armed || (kind >= SHORT && !writes) || ++calls != number) {
        return 0;
    }
    struck = name;
    if (kind == KILL) {
        raise(SIGKILL);
    }
    return 1;
}

static int fails(const char *name)
{
    if (strikes(name, 0)) {
        errno = code;
        return 1;
    }
    return 0;
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define FAILING(name, parameters, arguments)                                                                           \
    int name parameters                                                                                                \
    {                                                                                                                  \
        return fails(#name) ? -1 : REAL(name) arguments;                                                                    \
    }
#define OPENING(name, parameters, ...)                                                                                 \
    int name parameters                                                                                                \
    {                                                                                                                  \
        va_list rest;                                                                                                  \
        va_start(rest, flags);                                                                                         \
        mode_t mode = flags & O_CREAT ? va_arg(rest, mode_t) : 0;                                                      \
        va_end(rest);                                                                                                  \
        return fails(#name) ? -1 : REAL(name)(__VA_ARGS__, flags, mode);                                                    \
    }

OPENING(open, (const char *path, int flags, ...), path)
OPENING(open64, (const char *path, int flags, ...), path)
OPENING(openat, (int folder, const char *path, int flags, ...), folder, path)
OPENING(openat64, (int folder, const char *path, int flags, ...), folder, path)
FAILING(fsync, (int file), (file))
FAILING(fdatasync, (int file), (file))
FAILING(flock, (int file, int operation), (file, operation))
FAILING(rename, (const char *from, const char *to), (from, to))
FAILING(renameat, (int a, const char *from, int b, const char *to), (a, from, b, to))
FAILING(link, (const char *from, const char *to), (from, to))
FAILING(linkat, (int a, const char *from, int b, const char *to, int flags), (a, from, b, to, flags))
FAILING(unlink, (const char *path), (path))
FAILING(unlinkat, (int folder, const char *path, int flags), (folder, path, flags))
FAILING(chmod, (const char *path, mode_t mode), (path, mode))
FAILING(fchmodat, (int folder, const char *path, mode_t mode, int flags), (folder, path, mode, flags))
FAILING(stat, (const char *path, struct stat *found), (path, found))
FAILING(lstat, (const char *path, struct stat *found), (path, found))
FAILING(fstat, (int file, struct stat *found), (file, found))
FAILING(fstatat, (int a, const char *path, struct stat *found, int flags), (a, path, found, flags))
FAILING(stat64, (const char *path, struct stat64 *found), (path, found))
FAILING(lstat64, (const char *path, struct stat64 *found), (path, found))
FAILING(fstat64, (int file, struct stat64 *found), (file, found))
FAILING(fstatat64, (int a, const char *path, struct stat64 *found, int flags), (a, path, found, flags))

int close(int file)
{
    int failed = fails("close");
    /* as Linux does: the descriptor is gone all the same */
    int result = REAL(close)(file);
    if (failed) {
        errno = code;
        return -1;
    }
    return result;
}

static int duplicated(int (*real)(int, int, ...), int file, int command, void *argument)
{
    int counted = command == F_DUPFD || command == F_DUPFD_CLOEXEC;
    return counted && fails("dup") ? -1 : real(file, command, argument);
}

int fcntl(int file, int command, ...)
{
    va_list rest;
    va_start(rest, command);
    void *argument = va_arg(rest, void *);
    va_end(rest);
    return duplicated(REAL(fcntl), file, command, argument);
}

int fcntl64(int file, int command, ...)
{
    va_list rest;
    va_start(rest, command);
    void *argument = va_arg(rest, void *);
    va_end(rest);
    return duplicated(REAL(fcntl64), file, command, argument);
}

ssize_t write(int file, const void *bytes, size_t size)
{
    if (strikes("write", 1)) {
        if (kind == FAIL) {
            errno = code;
            return -1;
        }
        full = kind == FULL;
        size = (size + 1) / 2;
    } else if (armed && full) {
        errno = ENOSPC;
        return -1;
    }
    return REAL(write)(file, bytes, size);
}
