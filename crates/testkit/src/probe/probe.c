/* A static program that tries things inside a container and prints one line for each.
 *
 *   probe fds            what its descriptors are, without the folder it reads
 *   probe calls          verdicts of system calls, by their 64-bit, 32-bit and x32 numbers
 *   probe open DIR...    files below that can be opened for writing; nothing is written
 *   probe watch          traces every new process it sees and prints what it reaches through it
 *   probe keys           serial number of the session keyring
 *   probe dns ADDRESS N  N packets of noise and of bent queries to port 53, over UDP
 *   probe advertise      a router advertisement on eth0
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netpacket/packet.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static int fds(const char *dir, const char *prefix) {
    DIR *d = opendir(dir);
    if (!d) return 1;
    struct dirent *e;
    while ((e = readdir(d))) {
        if (e->d_name[0] == '.') continue;
        char path[512], to[1024];
        snprintf(path, sizeof path, "%s/%s", dir, e->d_name);
        if (!strcmp(dir, "/proc/self/fd") && atoi(e->d_name) == dirfd(d)) continue;
        ssize_t n = readlink(path, to, sizeof to - 1);
        if (n < 0) continue;
        to[n] = 0;
        printf("%s%s %s\n", prefix, e->d_name, to);
    }
    closedir(d);
    return 0;
}

static const char *word(long r) {
    static char text[32];
    if (r >= 0) return "allowed";
    switch ((int)-r) {
    case EPERM: return "EPERM";
    case ENOSYS: return "ENOSYS";
    default: snprintf(text, sizeof text, "errno %ld", -r); return text;
    }
}

static long call64(long n, long a, long b, long c, long d) {
    long r = syscall(n, a, b, c, d, 0, 0);
    return r < 0 ? -errno : r;
}

#ifdef __x86_64__
static long call32(int n, int a, int b, int c, int d) {
    int r;
    __asm__ volatile("int $0x80" : "=a"(r) : "a"(n), "b"(a), "c"(b), "d"(c), "S"(d) : "memory", "r8", "r9", "r10", "r11");
    return r;
}
#endif

struct call { const char *name; long n64; int n32; long a, b, c, d; };

static int calls(void) {
    static const struct call table[] = {
        {"socket-alg", SYS_socket, 359, 38, 5, 0, 0},
        {"socket-vsock", SYS_socket, 359, 40, 1, 0, 0},
        {"socket-unix", SYS_socket, 359, 1, 1, 0, 0},
        {"clone-newuser", SYS_clone, 120, CLONE_NEWUSER | SIGCHLD, 0, 0, 0},
        {"clone-newnet", SYS_clone, 120, CLONE_NEWNET | SIGCHLD, 0, 0, 0},
        {"clone3", 435, 435, 0, 0, 0, 0},
        {"unshare-newuser", SYS_unshare, 310, CLONE_NEWUSER, 0, 0, 0},
        {"unshare-newns", SYS_unshare, 310, CLONE_NEWNS, 0, 0, 0},
        {"setns", SYS_setns, 346, -1, 0, 0, 0},
        {"mount", SYS_mount, 21, 0, 0, 0, 0},
        {"umount2", SYS_umount2, 52, 0, 0, 0, 0},
        {"pivot_root", SYS_pivot_root, 217, 0, 0, 0, 0},
        {"open_tree", 428, 428, -1, 0, 0, 0},
        {"move_mount", 429, 429, -1, 0, -1, 0},
        {"fsopen", 430, 430, 0, 0, 0, 0},
        {"fsmount", 432, 432, -1, 0, 0, 0},
        {"mount_setattr", 442, 442, -1, 0, 0, 0},
        {"keyctl", SYS_keyctl, 288, 0, -3, 0, 0},
        {"add_key", SYS_add_key, 286, 0, 0, 0, 0},
        {"request_key", SYS_request_key, 287, 0, 0, 0, 0},
        {"bpf", SYS_bpf, 357, 0, 0, 0, 0},
        {"perf_event_open", SYS_perf_event_open, 336, 0, 0, 0, 0},
        {"userfaultfd", SYS_userfaultfd, 374, 1, 0, 0, 0},
        {"io_uring_setup", 425, 425, 1, 0, 0, 0},
        {"io_uring_enter", 426, 426, -1, 0, 0, 0},
        {"open_by_handle_at", SYS_open_by_handle_at, 342, -1, 0, 0, 0},
        {"init_module", SYS_init_module, 128, 0, 0, 0, 0},
        {"finit_module", SYS_finit_module, 350, -1, 0, 0, 0},
        {"delete_module", SYS_delete_module, 129, 0, 0, 0, 0},
        {"kexec_load", SYS_kexec_load, 283, 0, 0, 0, 0},
        {"reboot", SYS_reboot, 88, 0, 0, 0, 0},
        {"swapon", SYS_swapon, 87, 0, 0, 0, 0},
        {"acct", SYS_acct, 51, 0, 0, 0, 0},
        {"syslog", SYS_syslog, 103, 10, 0, 0, 0},
        {"quotactl", SYS_quotactl, 131, 0, 0, 0, 0},
        {"settimeofday", SYS_settimeofday, 79, 0, 0, 0, 0},
        {"clock_settime", SYS_clock_settime, 264, 9, 0, 0, 0},
        {"iopl", SYS_iopl, 110, 3, 0, 0, 0},
        {"personality-norandom", SYS_personality, 136, 0x40000, 0, 0, 0},
        {"personality-ask", SYS_personality, 136, 0xffffffff, 0, 0, 0},
        {"getpid", SYS_getpid, 20, 0, 0, 0, 0},
        {"unknown", 700, 700, 0, 0, 0, 0},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        const struct call *c = &table[i];
        long r = call64(c->n64, c->a, c->b, c->c, c->d);
        if (r == 0 && c->n64 == SYS_clone) _exit(0);
        printf("64 %s %s\n", c->name, word(r));
#ifdef __x86_64__
        r = call32(c->n32, (int)c->a, (int)c->b, (int)c->c, (int)c->d);
        if (r == 0 && c->n64 == SYS_clone) _exit(0);
        printf("32 %s %s\n", c->name, word(r));
        r = call64(c->n64 | 0x40000000, c->a, c->b, c->c, c->d);
        if (r == 0 && c->n64 == SYS_clone) _exit(0);
        printf("x32 %s %s\n", c->name, word(r));
#endif
        fflush(stdout);
    }
    return 0;
}

static int try_open(const char *path, const struct stat *st, int kind, struct FTW *ftw) {
    (void)ftw;
    /* Terminals and the like are opened by nobody here: a look must not change anything. What has no bit for
       writing has nothing that could be written to, though root may open it. */
    if (kind == FTW_F && S_ISREG(st->st_mode) && (st->st_mode & 0222)) {
        int fd = open(path, O_WRONLY | O_NONBLOCK | O_NOFOLLOW | O_CLOEXEC);
        if (fd >= 0) {
            printf("%s\n", path);
            close(fd);
        }
    }
    return 0;
}

static _Noreturn void watch(void) {
    char seen[65536] = {0};
    for (;;) {
        DIR *d = opendir("/proc");
        struct dirent *e;
        while ((e = readdir(d))) {
            int pid = atoi(e->d_name);
            if (pid <= 1 || pid >= 65536 || pid == getpid() || seen[pid]) continue;
            seen[pid] = 1;
            char path[64], prefix[64];
            long traced = ptrace(PTRACE_SEIZE, pid, 0, 0);
            /* Held while it is looked at; let go afterwards, or nobody else could reap it. */
            if (traced == 0) {
                ptrace(PTRACE_INTERRUPT, pid, 0, 0);
                waitpid(pid, 0, __WALL);
            }
            snprintf(path, sizeof path, "/proc/%d/exe", pid);
            char to[1024];
            ssize_t n = readlink(path, to, sizeof to - 1);
            if (n >= 0) {
                to[n] = 0;
                printf("exe %d %ld %s\n", pid, traced, to);
            }
            int fd = open(path, O_WRONLY | O_CLOEXEC);
            if (fd >= 0) {
                printf("writable %d\n", pid);
                close(fd);
            }
            snprintf(path, sizeof path, "/proc/%d/fd", pid);
            snprintf(prefix, sizeof prefix, "fd %d ", pid);
            fds(path, prefix);
            snprintf(path, sizeof path, "/proc/%d/environ", pid);
            fd = open(path, O_RDONLY | O_CLOEXEC);
            if (fd >= 0) {
                n = read(fd, to, sizeof to - 1);
                for (ssize_t i = 0; i < n; i++) if (to[i] == 0 || to[i] == '\n') to[i] = ' ';
                to[n > 0 ? n : 0] = 0;
                printf("environ %d %s\n", pid, to);
                close(fd);
            }
            if (traced == 0) ptrace(PTRACE_DETACH, pid, 0, 0);
            fflush(stdout);
        }
        closedir(d);
    }
}

static uint32_t dice = 2463534242u;
static uint32_t roll(void) { dice ^= dice << 13; dice ^= dice >> 17; dice ^= dice << 5; return dice; }

static int dns(const char *address, long count) {
    int s = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(53)};
    inet_pton(AF_INET, address, &to.sin_addr);
    static const unsigned char query[] = {0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, 'a', 4, 't', 'e', 's', 't', 0, 0, 1, 0, 1};
    unsigned char packet[1400];
    for (long i = 0; i < count; i++) {
        size_t len;
        if (i % 3 == 0) {
            len = roll() % sizeof packet;
            for (size_t j = 0; j < len; j++) packet[j] = (unsigned char)roll();
        } else {
            memcpy(packet, query, sizeof query);
            len = sizeof query;
            for (uint32_t k = roll() % 5; k; k--) packet[roll() % len] = (unsigned char)roll();
            if (i % 3 == 2) { packet[12] = 0xc0; packet[13] = 12; }
            if (roll() % 4 == 0) len = roll() % len;
        }
        sendto(s, packet, len, 0, (struct sockaddr *)&to, sizeof to);
    }
    puts("sent");
    return 0;
}

static int frame(const unsigned char *bytes, size_t len, int kind) {
    int s = socket(AF_PACKET, SOCK_RAW, htons(0x0003));
    if (s < 0) { perror("socket"); return 1; }
    struct sockaddr_ll to = {.sll_family = AF_PACKET, .sll_ifindex = (int)if_nametoindex("eth0"), .sll_halen = 6, .sll_protocol = htons(kind)};
    memset(to.sll_addr, 0xff, 6);
    for (int i = 0; i < 5; i++)
        if (sendto(s, bytes, len, 0, (struct sockaddr *)&to, sizeof to) < 0) { perror("sendto"); return 1; }
    puts("sent");
    return 0;
}

static void own_mac(unsigned char *mac) {
    struct ifreq ask;
    memset(&ask, 0, sizeof ask);
    strcpy(ask.ifr_name, "eth0");
    int s = socket(AF_INET, SOCK_DGRAM, 0);
    ioctl(s, SIOCGIFHWADDR, &ask);
    memcpy(mac, ask.ifr_hwaddr.sa_data, 6);
    close(s);
}

static int advertise(void) {
    unsigned char p[14 + 40 + 16 + 32] = {0x33, 0x33, 0, 0, 0, 1};
    own_mac(p + 6);
    p[12] = 0x86; p[13] = 0xdd;
    unsigned char *ip = p + 14, *ra = ip + 40;
    ip[0] = 0x60; ip[5] = 48; ip[6] = 58; ip[7] = 255;
    ip[8] = 0xfe; ip[9] = 0x80; ip[16] = p[6] ^ 2; ip[17] = p[7]; ip[18] = p[8]; ip[19] = 0xff; ip[20] = 0xfe; ip[21] = p[9]; ip[22] = p[10]; ip[23] = p[11];
    ip[24] = 0xff; ip[25] = 2; ip[39] = 1;
    ra[0] = 134; ra[4] = 64; ra[6] = 7; ra[7] = 8;
    unsigned char *prefix = ra + 16;
    prefix[0] = 3; prefix[1] = 4; prefix[2] = 64; prefix[3] = 0xc0;
    memset(prefix + 4, 0x7f, 8);
    memcpy(prefix + 16, "\x20\x01\x0d\xb8\xba\xdd", 6);
    uint32_t sum = 0;
    for (int i = 8; i < 40; i += 2) sum += (uint32_t)(ip[i] << 8 | ip[i + 1]);
    sum += 48 + 58;
    for (int i = 0; i < 48; i += 2) sum += (uint32_t)(ra[i] << 8 | ra[i + 1]);
    while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
    sum = ~sum;
    ra[2] = (unsigned char)(sum >> 8); ra[3] = (unsigned char)sum;
    return frame(p, sizeof p, 0x86dd);
}

int main(int argc, char **argv) {
    const char *what = argc > 1 ? argv[1] : "";
    setvbuf(stdout, 0, _IOLBF, 0);
    if (!strcmp(what, "fds")) return fds("/proc/self/fd", "");
    if (!strcmp(what, "calls")) return calls();
    if (!strcmp(what, "watch")) watch();
    if (!strcmp(what, "keys")) {
        long r = syscall(SYS_keyctl, 0, -3, 1, 0, 0);
        printf("%ld %s\n", r, r < 0 ? strerror(errno) : "");
        return r < 0;
    }
    if (!strcmp(what, "open")) {
        for (int i = 2; i < argc; i++) nftw(argv[i], try_open, 32, FTW_PHYS);
        return 0;
    }
    if (!strcmp(what, "dns") && argc == 4) return dns(argv[2], atol(argv[3]));
    if (!strcmp(what, "advertise")) return advertise();
    fprintf(stderr, "probe: nothing is called %s here\n", what);
    return 2;
}
