/* Hints and bells: how an instance learns that there is work, without the 10 ms
 * deadline after which it would look anyway: this model has none. run.sh checks it;
 * handover.pml has the words themselves.
 *
 * One operator with an instance on each of two seats, and three tasks of a request:
 *   0 reads what the client and another operator's instance (the peer) have written,
 *   1 reads what the client has written,
 *   2 reads 0 and 1. The client waits until all are done, at a bell of its own.
 *
 * What stands for what
 *   input[]    what peer and client have committed
 *   task[]     the task words, as far as they matter here
 *   hints      a bit per task that may be runnable
 *   sleepers   a bit per seat: announced sleep and not yet chosen to be woken
 *   bell[]     a futex word per seat, and the client's: whether it has changed since
 *              its owner read it. The owner reads it before it announces sleep, and
 *              sleeps only while it has not changed.
 *   dead       a bit per launch (a seat has two at most; client; peer): confirmed
 *              deaths that nobody has dealt with to the end
 *
 * The rules
 *   - Commit, then set the hints (with HINT_IF_READY only of tasks that are found to
 *     have all their inputs), then [fence] read the sleepers. If there are any, swap
 *     one's bit away, then change its bell.
 *   - Clear a hint, then look at the task's words, then claim. If hints remain after
 *     the claim, ring; then run.
 *   - Read the bell, announce sleep, then [fence] look at the hints once more.
 *     Awake again for whatever reason: take back one's own bit.
 *   - The client reads its bell, then looks at the words, then sleeps.
 *   - After any death the supervisor gives back the claim, sets all hints, empties
 *     the mask and changes all bells, the clients' too. All, and not those that the
 *     mask shows: the dead may have swapped a bit away and changed no bell.
 *
 * Properties
 *   - No wake-up is lost: things stop only when all tasks are done and the client
 *     knows it. (Anything else is an invalid end state to Spin.)
 *   - No task waits for a busy instance while another sleeps: a kernel runs either
 *     short or until nothing else can happen, and then this is asserted.
 *
 * A seat's dead instance is followed by another at once, or never. Dead client or
 * peer: their commit stands, they tell nobody; a client's end is not modelled.
 * Steps that are one here and two in the code, and why nothing is lost: reading the
 * sleepers and swapping that mask (a swap that fails changes nothing); reading the
 * bell and announcing (a change between them might as well come after); finding a
 * hint, or one's bell changed, and taking back one's bit (a choice of this sleeper
 * between them might as well come before). Memory is sequentially consistent, hence
 * the fences; M_NO_FENCE and M_NO_SECOND_LOOK show what each is for.
 */

#ifndef TASKS
#define TASKS 3              /* 2: without task 2, the client waits for 0 and 1 */
#endif
#ifndef DEATHS
#define DEATHS 1             /* of client, peer and instances together */
#endif
#ifndef SUPERVISOR_DEATHS
#define SUPERVISOR_DEATHS 1
#endif

#define SEATS  2
#define CLIENT SEATS         /* its bell */
#define BIT(n) (1 << (n))
#define ALL    (BIT(TASKS) - 1)

mtype = { waiting, claimed, done };
mtype task[TASKS] = waiting;
byte holder[TASKS];          /* a launch: seat, or seat + SEATS for the second one there */
bool input[2];               /* the peer's, the client's */
byte hints, sleepers;
bool bell[SEATS + 1] = true; /* true, too, while nobody listens: saves states */

byte dead;                   /* a bit per launch */
#define A_CLIENT BIT(2 * SEATS)
#define A_PEER   BIT(2 * SEATS + 1)
byte deaths = DEATHS, supervisor_deaths = SUPERVISOR_DEATHS;
byte empty_seats;
bool asleep[SEATS];          /* for the property only */

#define READY(t) (((t) == 0 && input[0] && input[1]) || ((t) == 1 && input[1]) \
    || ((t) == 2 && task[0] == done && task[1] == done))
#define RUNNABLE(t) (task[t] == waiting && READY(t))
#define SOME_RUNNABLE (RUNNABLE(0) || RUNNABLE(1) || RUNNABLE(TASKS - 1))
#define ALL_DONE (task[0] == done && task[1] == done && task[TASKS - 1] == done)

#define MAY_DIE(budget) if :: budget > 0 -> budget--; goto died :: true fi

/* Wakes one sleeper, if there is any. */
inline ring() {
    atomic {
        MAY_DIE(deaths);
        if
        :: sleepers & BIT(0) -> sleepers = sleepers & ~BIT(0); m = 1
        :: sleepers & BIT(1) -> sleepers = sleepers & ~BIT(1); m = 2
        :: sleepers == 0
        fi };
    if
    :: m == 0
    :: else -> atomic { MAY_DIE(deaths); bell[m - 1] = true; m = 0 }
    fi
}

/* After a commit: it may have made these runnable. */
inline tell(them) {
#ifdef M_NO_FENCE                                  /* the mask is read too early */
    m = (sleepers == 0);
#endif
#ifdef HINT_IF_READY
    m = them & (READY(0) | READY(1) << 1 | READY(TASKS - 1) << 2);
    if :: m != 0 -> atomic { MAY_DIE(deaths); hints = hints | m; m = 0 }; ring() :: else fi
#else
    atomic { MAY_DIE(deaths); hints = hints | them };
#ifdef M_NO_FENCE
    if :: m == 1 -> m = 0 :: else -> ring() fi
#else
    ring()
#endif
#endif
}

#ifndef M_LOOK_THEN_CLEAR
#define TAKE(n) atomic { hints & BIT(n) -> hints = hints & ~BIT(n); t = n }
#else
#define TAKE(n) atomic { hints & BIT(n) -> t = n; m = RUNNABLE(n) }
#endif
#ifndef M_NO_SECOND_LOOK
#define STILL_NOTHING (hints == 0)
#else
#define STILL_NOTHING true
#endif

#ifndef M_STALE_SLEEPER
#define WITHDRAW bell[SEAT] = true; sleepers = sleepers & ~BIT(SEAT)
#else
#define WITHDRAW bell[SEAT] = true
#endif

#define SEAT (L % SEATS)
active [SEATS] proctype Instance() {
    byte L = _pid;
    byte t, m;

idle:
    if
    :: TAKE(0)
    :: TAKE(1)
#if TASKS > 2
    :: TAKE(2)
#endif
    :: hints == 0 -> goto sleep
    fi;
#ifdef M_LOOK_THEN_CLEAR
    atomic { hints = hints & ~BIT(t); if :: m -> m = 0 :: else -> t = 0; goto idle fi };
#endif
    atomic {                                       /* look, and claim */
        MAY_DIE(deaths);
        if
        :: RUNNABLE(t) -> task[t] = claimed; holder[t] = L
        :: else -> t = 0; goto idle
        fi };
#ifndef M_NO_CHAIN
    if
    :: hints != 0 -> ring()
    :: hints == 0
    fi;
#endif
    if                                             /* a short run, or a long one */
    :: atomic { MAY_DIE(deaths); task[t] = done; holder[t] = 0 }
    :: atomic { true -> timeout ->
           assert(!SOME_RUNNABLE || !(asleep[0] || asleep[1]));
           MAY_DIE(deaths);
           task[t] = done; holder[t] = 0 }
    fi;
#if TASKS > 2
    if
    :: t < 2 -> tell(BIT(2))
    :: else -> atomic { MAY_DIE(deaths); bell[CLIENT] = true }
    fi;
#else
    atomic { MAY_DIE(deaths); bell[CLIENT] = true };
#endif
    atomic { t = 0; goto idle };

sleep:
    atomic {                                       /* read the bell, announce */
        bell[SEAT] = false;
        sleepers = sleepers | BIT(SEAT) };
    if
    :: atomic { hints != 0 -> MAY_DIE(deaths); WITHDRAW; goto idle }
    :: atomic { STILL_NOTHING -> MAY_DIE(deaths); asleep[SEAT] = true };
end_asleep:
       atomic { bell[SEAT] -> asleep[SEAT] = false; MAY_DIE(deaths); WITHDRAW; goto idle }
    fi;

died:
    atomic {
        dead = dead | BIT(L);
        bell[SEAT] = true;
        t = 0;
        m = 0;
        if
        :: L < SEATS -> L = L + SEATS; goto idle   /* the next on this seat */
        :: empty_seats < SEATS - 1 -> empty_seats++
        fi }
}

active proctype Client() {
    byte m;

    input[1] = true;
    tell(BIT(0) | BIT(1));
wait:
    bell[CLIENT] = false;                          /* read it */
    if
    :: atomic { ALL_DONE -> bell[CLIENT] = true }
    :: atomic { !ALL_DONE -> bell[CLIENT]; goto wait }
    fi;
    goto over;
died:  /* the next one waits for the answer, but tells nobody */
    atomic { dead = dead | A_CLIENT; m = 0; goto wait };
over:
    skip
}

active proctype Peer() {
    byte m;

    input[0] = true;
    tell(BIT(0));
    goto over;
died:
    dead = dead | A_PEER;
over:
    skip
}

inline give_back(t) {
    if
    :: task[t] == claimed && (d & BIT(holder[t])) -> task[t] = waiting; holder[t] = 0
    :: else
    fi
}
active proctype Supervisor() {
    byte d;

died:
end_idle:
    atomic {                                       /* give back */
        dead != 0 ->
        d = dead;
        MAY_DIE(supervisor_deaths);
        give_back(0);
        give_back(1);
        give_back(TASKS - 1) };
#ifndef M_BELLS_BEFORE_HINTS
    atomic { MAY_DIE(supervisor_deaths); hints = ALL };
#endif
#ifndef M_NO_REPAIR
    atomic { MAY_DIE(supervisor_deaths); sleepers = 0 };
#endif
    atomic {
        MAY_DIE(supervisor_deaths);
#ifndef M_RING_BY_MASK
        bell[0] = true;
        bell[1] = true;
#else
        if
        :: sleepers & BIT(0) -> sleepers = sleepers & ~BIT(0); bell[0] = true
        :: sleepers & BIT(1) -> sleepers = sleepers & ~BIT(1); bell[1] = true
        :: else
        fi;
#endif
#ifndef M_CLIENT_NOT_RUNG
        bell[CLIENT] = true
#endif
        };
    atomic {
        MAY_DIE(supervisor_deaths);
#ifdef M_BELLS_BEFORE_HINTS
        hints = ALL;
#endif
        dead = dead & ~d;
        d = 0;
        goto end_idle }
}
