/* The hand-over protocol of the board: who may change which word, and what then
 * can never happen, whoever dies. run.sh checks it.
 *
 * What stands for what
 *   task[]   the task words: generation, attempts, state, holder
 *   slot[]   the slot words: generation, state, holder (the client)
 *   place[]  the places of a slot's arena: one per task's output, one for what the
 *            client wrote. A place holds (generation, writer); TORN(launch) from
 *            the first byte of a write to its last; GARBAGE when its writer died
 *            or the slot was freed.
 *   dead     a bit per launch number: deaths that the kernel has confirmed and that
 *            nobody has dealt with to the end (the launch record is on the board).
 *            A process sets its bit in its last step, so none acts after it.
 *
 * A task   waiting(g) -> claimed(g, L) -> done(g) | failed(g)
 *          claimed(g, L), L dead -> waiting(g), attempts + 1; or, if this was the
 *            second death in this task of this request, failed(g)
 *          whatever(g) but claimed -> waiting(g+1), once the slot is closing(g)
 * A slot   free(g) -> filling(g, C) -> running(g, C) -> closing(g) -> free(g+1)
 *          filling(g, C), C dead -> closing(g)
 *
 * A client takes a slot, writes its input, submits, reads the answer (or cancels)
 * and closes the slot. Closing is sweep(): every task word that is not claimed is
 * advanced; a claimed one is left to its holder, which after its commit looks at
 * the slot and, if that is closing, sweeps too. Who has seen all words advanced
 * frees the slot. So nobody waits for anybody and nobody polls. Only a death calls
 * the supervisor: it gives back the claim, closes the slot, sweeps what is closing.
 * A live client's slot is closed by nobody else.
 *
 * Every change is one compare-and-swap on the whole word that was read: SWAP. Where
 * nobody else may touch the word, this is asserted instead. Reads are steps of their
 * own, and a process can die before every step that changes something.
 *
 * Left out, and why nothing is lost by it
 *   - Hints and bells. An instance may look at any task at any time here; hints
 *     only choose among these looks. doorbell.pml has them.
 *   - Looks that end without a claim: they change nothing. Thus an instance starts
 *     from a waiting task whose first input is there, both seen in one step. No word
 *     returns to an earlier value (asserted in SWAP), so if a claim succeeds, its
 *     task word has not changed since it was read, and the read can be moved to any
 *     later moment before the swap. Inputs can change meanwhile (the slot closes):
 *     they are read one by one.
 *   - Likewise, where nothing else is read between reading a word and swapping it,
 *     both are one step; FINE keeps them apart.
 *   - Deaths with nothing in hand change nothing; one between a read and the next
 *     change is the same as one just before that change.
 *   - A kernel reads its inputs in one step, with the last byte it writes: whatever
 *     could spoil them between claim and commit could do so before that step.
 *   - Retired slots (free ones that nobody takes); generations that wrap round.
 *   - Weak memory: Spin is sequentially consistent. The code must be, at least where
 *     a sweeper swaps the slot word and then reads task words, and where a holder
 *     swaps its task word and then reads the slot word.
 *
 * Properties: the assertions, and that no request is lost: nothing stops before init
 * has seen the end, where every client has had its answers and every slot is free.
 * Since no run returns to a state (run.sh looks for cycles), every run does stop.
 */

#ifndef SLOTS
#define SLOTS 1              /* 1 or 2, and as many clients */
#endif
#ifndef REQUESTS
#define REQUESTS 2           /* of each client; one whose client dies counts */
#endif
#ifndef INSTANCES
#define INSTANCES 2
#endif
#ifndef SUPERVISORS
#define SUPERVISORS 1        /* 2: two at once, which opsplitd's lock rules out */
#endif
#ifndef INSTANCE_DEATHS
#define INSTANCE_DEATHS 2
#endif
#ifndef CLIENT_DEATHS
#define CLIENT_DEATHS 1
#endif
#ifndef SUPERVISOR_DEATHS
#define SUPERVISOR_DEATHS 1
#endif

/* The graph: the inputs of a task are tasks, or what the client wrote. */
#define TASKS  3
#define LAST   2             /* its output is the answer */
#define CLIENT 3             /* as an input: the client; as a place: what it wrote */
#define NONE   4
#ifdef CHAIN                 /* client -> 0 -> 1 -> 2, and 2 uses the place of 0 again */
#define FIRST(t)  ((t) == 0 -> CLIENT : (t) - 1)
#define SECOND(t) NONE
#define PLACE(t)  ((t) == 2 -> 0 : (t))
#else                        /* client -> 0 and 1, both -> 2 */
#define FIRST(t)  ((t) < 2 -> CLIENT : 0)
#define SECOND(t) ((t) < 2 -> NONE : 1)
#define PLACE(t)  (t)
#endif
#ifdef OPERATORS             /* one instance has tasks 0 and 2, the other has 1 */
#define MINE(t)   ((t) % 2 == _pid % 2)
#else                        /* all are instances of one operator */
#define MINE(t)   true
#endif

/* Words. The fields are in the order that makes every change an increase; the
 * holder is kept where somebody reads it (claimed, filling, running). */
#define WORD(g, a, state, holder) ((g) << 8 | (a) << 6 | (state) << 4 | (holder))
#define GEN(w)      ((w) >> 8)
#define ATTEMPTS(w) (((w) >> 6) & 3)
#define STATE(w)    (((w) >> 4) & 3)
#define HOLDER(w)   ((w) & 15)
#define WAITING 0            /* a task's states */
#define CLAIMED 1
#define DONE    2
#define FAILED  3
#define FREE    0            /* a slot's states */
#define FILLING 1
#define RUNNING 2
#define CLOSING 3

short task[SLOTS * TASKS];
short slot[SLOTS];
#define T(s, t) task[(s) * TASKS + (t)]

#ifndef M_NO_BUMP
#define NEXT(g) ((g) + 1)
#define SWAP(word, old, new) word == (old) -> assert((new) > (old)); word = new
#else
#define NEXT(g) (g)
#define SWAP(word, old, new) word == (old) -> word = new
#endif

#ifdef FINE
#define LATER }; atomic {    /* in a step of its own */
#else
#define LATER ;
#endif

/* What a claimer asks of an input's word. */
#ifndef M_ANY_GENERATION
#define COMMITTED(w, g) (GEN(w) == (g) && STATE(w) >= DONE)
#else
#define COMMITTED(w, g) (STATE(w) >= DONE)
#endif
#define READY(s, in, g) ((in) == NONE \
    || ((in) == CLIENT && GEN(slot[s]) == (g) && STATE(slot[s]) == RUNNING) \
    || ((in) < CLIENT && COMMITTED(T(s, in), g)))
#define BROKEN(s, in)   ((in) < CLIENT && STATE(T(s, in)) == FAILED)

byte place[SLOTS * (TASKS + 1)];
#define P(s, p) place[(s) * (TASKS + 1) + (p)]
#define GARBAGE 0
#define TORN(L) (L)
#define VALUE(g, writer) (16 + (g) * 4 + (writer))
#define INTACT(in, g) \
    ((in) == NONE || P(s, ((in) == CLIENT -> CLIENT : PLACE(in))) == VALUE(g, in))

short dead;                              /* a bit per launch number */
byte launches = INSTANCES + SLOTS;       /* launch numbers given so far, from 1 on */
byte instance_deaths = INSTANCE_DEATHS;  /* deaths that may still happen */
byte client_deaths = CLIENT_DEATHS;
byte supervisor_deaths = SUPERVISOR_DEATHS;

/* For the properties only. */
byte runs[SLOTS * TASKS];                /* claims of this task for this request */
bool committed[SLOTS * TASKS];           /* it has been committed */
byte finished;                           /* clients that have no more requests */

/* At the head of a step: the process dies instead. What dies is started again under
 * a new launch number, before or after the supervisor has dealt with the death. */
#define MAY_DIE(budget) if :: budget > 0 -> budget--; dies(); goto died :: true fi
inline dies() {
    d_step {
        n = 0;
        do
        :: n < SLOTS * (TASKS + 1) && L > 0 && place[n] == TORN(L) -> place[n] = GARBAGE
        :: n < SLOTS * (TASKS + 1) && !(L > 0 && place[n] == TORN(L)) -> n++
        :: else -> break
        od;
        if
        :: L > 0 -> dead = dead | 1 << L; launches++; L = launches
        :: else                          /* a supervisor has no launch number */
        fi;
        forget() }
}
inline forget() { s = 0; n = 0; w = 0; c = 0; left = false }

/* The first and the last byte of a write into the place p for request g. */
inline begin_write(p, g) {
    assert(GEN(slot[s]) == g && STATE(slot[s]) != FREE);
    assert(P(s, p) == GARBAGE || P(s, p) >= VALUE(0, 0));   /* nobody is writing there */
    P(s, p) = TORN(L)
}
inline end_write(p, g, writer) {
    assert(GEN(slot[s]) == g && STATE(slot[s]) != FREE);
    assert(P(s, p) == TORN(L));
    P(s, p) = VALUE(g, writer)
}

/* Closing slot s, by a process that has read its word c, which was closing.
 * Any number may do this at once, or late, when the slot is long in use again. */
#define ADVANCED(n) (GEN(T(s, n)) != GEN(c))                /* and stays so */
#define HELD(n)     (GEN(T(s, n)) == GEN(c) && STATE(T(s, n)) == CLAIMED)
inline sweep(budget) {
    do
    :: atomic { n < TASKS && ADVANCED(n) -> next_word() }
    :: atomic { n < TASKS && HELD(n) ->
#ifndef M_FREE_EARLY
           left = true;
#endif
           next_word() }
    :: atomic { n < TASKS && !ADVANCED(n) && !HELD(n) -> w = T(s, n) LATER
           MAY_DIE(budget);
           if
#ifndef M_STORE_AT_SWEEP
           :: SWAP(T(s, n), w, WORD(NEXT(GEN(w)), 0, WAITING, 0));
              runs[s * TASKS + n] = 0;
              committed[s * TASKS + n] = false;
              next_word()
#else
           :: true -> T(s, n) = WORD(NEXT(GEN(w)), 0, WAITING, 0); next_word()
#endif
           :: else                                          /* look at it again */
           fi;
           w = 0 }
    :: atomic { n == TASKS ->
           MAY_DIE(budget);
           if
           :: SWAP(slot[s], c, WORD(NEXT(GEN(c)), 0, FREE, 0));
              P(s, 0) = GARBAGE; P(s, 1) = GARBAGE; P(s, 2) = GARBAGE; P(s, 3) = GARBAGE
           :: else                                          /* another has done it */
           fi;
           break }
    od
}
inline next_word() {
    d_step {
        n++;
        do
        :: n < TASKS && ADVANCED(n) -> n++
        :: else -> break
        od };
    if
    :: n == TASKS && left -> break
    :: else
    fi
}

/* A task waits, and its first input (for FULL: each input) is there. */
#define HALF(S, K) (MINE(K) && STATE(T(S, K)) == WAITING && READY(S, FIRST(K), GEN(T(S, K))))
#define FULL(S, K) (HALF(S, K) && READY(S, SECOND(K), GEN(T(S, K))))
#define LOOK(cond, S, K) \
    atomic { cond(S, K) -> \
        s = S; t = K; w = T(S, K); bad = BROKEN(S, FIRST(K)); \
        if :: SECOND(K) == NONE -> goto claim :: else -> goto look fi }

active [INSTANCES] proctype Instance() {
    byte L = _pid + 1;
    byte s, t, n;
    short w, c;
    bool bad, left;

died:
idle:
    atomic { forget(); t = 0; bad = false };
end_idle:
    if
    :: LOOK(HALF, 0, 0)
    :: LOOK(HALF, 0, 1)
    :: LOOK(HALF, 0, 2)
#if SLOTS > 1
    :: LOOK(HALF, 1, 0)
    :: LOOK(HALF, 1, 1)
    :: LOOK(HALF, 1, 2)
#endif
    fi;
look:
    if
    :: atomic { READY(s, SECOND(t), GEN(w)) -> bad = bad || BROKEN(s, SECOND(t)) }
    :: atomic { T(s, t) != w -> goto idle }
    /* A real instance does not wait here for the other input: it gives up and looks
       elsewhere. So does this one if there is anything to be had elsewhere. */
    :: LOOK(FULL, 0, 0)
    :: LOOK(FULL, 0, 1)
#if SLOTS > 1
    :: LOOK(FULL, 1, 0)
    :: LOOK(FULL, 1, 1)
    :: LOOK(s == 0 && FULL, 1, 2)
    :: LOOK(s == 1 && FULL, 0, 2)
#endif
    fi;
claim:
    atomic {
        if
        :: SWAP(T(s, t), w, WORD(GEN(w), ATTEMPTS(w), CLAIMED, L));
           w = T(s, t);
           runs[s * TASKS + t]++;
           assert(runs[s * TASKS + t] <= 2)
        :: else -> goto idle
        fi };
#ifdef M_UNCONFIRMED                     /* its silence was taken for its death */
    atomic { if :: instance_deaths > 0 -> instance_deaths--; dead = dead | 1 << L :: true fi };
#endif
    if
    :: bad                               /* writes nothing */
    :: !bad ->
       atomic { MAY_DIE(instance_deaths); begin_write(PLACE(t), GEN(w)) };
       atomic {
           MAY_DIE(instance_deaths);
           assert(INTACT(FIRST(t), GEN(w)) && INTACT(SECOND(t), GEN(w)));
           end_write(PLACE(t), GEN(w), t) }
    fi;
    atomic {                             /* commit */
        MAY_DIE(instance_deaths);
        assert(!committed[s * TASKS + t]);
        committed[s * TASKS + t] = true;
        assert(T(s, t) == w);            /* nobody swaps the word of a living holder */
        T(s, t) = WORD(GEN(w), ATTEMPTS(w), (bad -> FAILED : DONE), 0);
        t = 0;
        bad = false;
        w = 0 };
#ifndef M_NO_LOOK_AFTER_COMMIT
    if
    :: atomic { STATE(slot[s]) == CLOSING -> c = slot[s] };
       sweep(instance_deaths)
    :: STATE(slot[s]) != CLOSING
    fi;
#endif
    goto idle
}

active [SLOTS] proctype Client() {
    byte L = _pid + 1;
    byte s, n, requests;
    short w, c;
    bool left;

died:
    do
    :: requests < REQUESTS ->
       if
       :: atomic { STATE(slot[0]) == FREE -> w = slot[0] }
#if SLOTS > 1
       :: atomic { STATE(slot[1]) == FREE -> s = 1; w = slot[1] }
#endif
       fi;
       atomic {                          /* take it */
           if
           :: SWAP(slot[s], w, WORD(GEN(w), 0, FILLING, L)); w = slot[s]; requests++
           :: else -> forget(); goto died
           fi };
       atomic { MAY_DIE(client_deaths); begin_write(CLIENT, GEN(w)) };
       atomic { MAY_DIE(client_deaths); end_write(CLIENT, GEN(w), CLIENT) };
       atomic {                          /* submit */
           MAY_DIE(client_deaths);
           assert(slot[s] == w);         /* nobody swaps the word of a living client */
           slot[s] = WORD(GEN(w), 0, RUNNING, L);
           w = slot[s];
           if
           :: goto close                 /* cancel (or die), at any later time */
           :: true                       /* or wait for the answer */
           fi };
       atomic {
           GEN(T(s, LAST)) == GEN(w) && STATE(T(s, LAST)) >= DONE ->
           assert(STATE(T(s, LAST)) == FAILED || INTACT(LAST, GEN(w)));
           assert(STATE(T(s, LAST)) == DONE || INSTANCE_DEATHS - instance_deaths >= 2) };
close:
       atomic {
           MAY_DIE(client_deaths);
           assert(slot[s] == w);
           slot[s] = WORD(GEN(w), 0, CLOSING, 0);
           c = slot[s];
           w = 0 };
       sweep(client_deaths);
       atomic { forget() }
    :: else -> break
    od;
    finished++
}

#define HIS(n) (STATE(task[n]) == CLAIMED && HOLDER(task[n]) == who)
active [SUPERVISORS] proctype Supervisor() {
    byte L = 0;
    byte who, s, n;
    short w, c;
    bool left;

died:  /* its successor starts here and knows only what is on the board */
end_idle:
    atomic {
        dead != 0 ->
        who = 1;
        do
        :: dead & 1 << who -> break
        :: else -> who++
        od;
        do  /* an instance has one claim at most */
        :: n < SLOTS * TASKS && HIS(n) -> w = task[n]; break
        :: n < SLOTS * TASKS && !HIS(n) -> n++
        :: else -> goto slots
        od };
    atomic {  /* give it back */
        MAY_DIE(supervisor_deaths);
        if
#ifdef M_STORE_AT_GIVE_BACK
        :: ATTEMPTS(w) == 0 -> task[n] = WORD(GEN(w), 1, WAITING, 0)
#else
        :: ATTEMPTS(w) == 0 && SWAP(task[n], w, WORD(GEN(w), 1, WAITING, 0))
#endif
#ifdef M_NO_LIMIT
        :: ATTEMPTS(w) == 1 && SWAP(task[n], w, WORD(GEN(w), 2, WAITING, 0))
#else
        :: ATTEMPTS(w) == 1 && SWAP(task[n], w, WORD(GEN(w), 2, FAILED, 0))
#endif
        :: else
        fi;
        w = 0;
        goto slots };
slots:
    n = 0;
    do
    :: atomic {  /* close what it had taken */
           s < SLOTS && HOLDER(slot[s]) == who -> w = slot[s] LATER
           MAY_DIE(supervisor_deaths);
           if
           :: SWAP(slot[s], w, WORD(GEN(w), 0, CLOSING, 0))
           :: else
           fi;
           w = 0 }
    :: atomic {  /* finish what is closing */
           s < SLOTS && STATE(slot[s]) == CLOSING -> c = slot[s] };
       sweep(supervisor_deaths);
       atomic { s++; n = 0; c = 0; left = false }
    :: s < SLOTS && HOLDER(slot[s]) != who && STATE(slot[s]) != CLOSING -> s++
    :: atomic {  /* dealt with */
           s == SLOTS ->
           MAY_DIE(supervisor_deaths);
           dead = dead & ~(1 << who);
           who = 0;
           forget();
           goto end_idle }
    od
}

/* The end: nothing more to come, every slot free, its words fit for the next request. */
#define FIT(s) (STATE(slot[s]) == FREE && T(s, 0) == WORD(GEN(slot[s]), 0, WAITING, 0) \
    && T(s, 1) == T(s, 0) && T(s, 2) == T(s, 0))
init {
    finished == SLOTS && dead == 0 && FIT(0) && FIT(SLOTS - 1)
}
