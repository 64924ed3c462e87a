/* Loaded into a Redis (LD_PRELOAD): notes how much of each file under SYNCED_OF has been synced.
 *
 * The note of a file is a file of its name in the folder SYNCED_IN that holds one number: its size
 * at the last sync that succeeded. What comes after it would be gone after a loss of power.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int note_of(const char *path, char *note, size_t room) {
    const char *of = getenv("SYNCED_OF"), *in = getenv("SYNCED_IN");
    const char *name = strrchr(path, '/');
    if (!of || !in || strncmp(path, of, strlen(of)) != 0) return 0;
    snprintf(note, room, "%s/%s", in, name ? name + 1 : path);
    return 1;
}

static int synced(int fd, const char *call) {
    int (*real)(int) = dlsym(RTLD_NEXT, call);
    struct stat before;
    int is_file = fstat(fd, &before) == 0 && S_ISREG(before.st_mode);
    int result = real(fd);
    char link[64], path[2048], note[4096], size[32];
    if (result != 0 || !is_file) return result;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length <= 0) return result;
    path[length] = 0;
    if (note_of(path, note, sizeof note)) {
        int out = open(note, O_WRONLY | O_CREAT, 0600);
        int digits = snprintf(size, sizeof size, "%020lld", (long long)before.st_size);
        if (out < 0 || pwrite(out, size, digits, 0) != digits) abort();
        close(out);
    }
    return result;
}

int fsync(int fd) { return synced(fd, "fsync"); }
int fdatasync(int fd) { return synced(fd, "fdatasync"); }

int rename(const char *from, const char *to) {
    int (*real)(const char *, const char *) = dlsym(RTLD_NEXT, "rename");
    char from_path[2048], to_path[2048], from_note[4096], to_note[4096];
    if (!realpath(from, from_path)) return real(from, to);
    int result = real(from, to);
    if (result == 0 && realpath(to, to_path) && note_of(from_path, from_note, sizeof from_note) &&
        note_of(to_path, to_note, sizeof to_note))
        real(from_note, to_note);
    return result;
}
