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
 *   - Deaths with nothing in hand change nothing; one between a read and the next
 *     change is the same as one just before that change.
 *   - Retired slots (free ones that nobody takes); generations that wrap round.
 *   - Weak memory: Spin is sequentially consistent. The code must be, at least where
 *     a sweeper swaps the slot word and then reads task words, and where a holder
 *     swaps its task word and then reads the slot word.
 *
 * Made one step, and why nothing is lost by it
 *   - A read and the swap after it, where nothing else is read between; FINE keeps
 *     apart those of sweep() and of the supervisor. So is a step that only one process
 *     can notice and the step before it.
 *   - A client takes its slot, writes and submits. Until then nobody touches the slot:
 *     all its words wait with its generation (asserted), so nobody has a claim there.
 *     To submit earlier only allows more. The client can die before it submits.
 *   - A claim and the first byte written; the last byte and the commit; the client's
 *     look at the answer and its closing. Places are torn for longer, so whoever meets
 *     a writer still does. An instance reads its inputs with its last byte, since what
 *     spoils them before could do so before that step, and nothing spoilt gets whole.
 *   - The supervisor's last look and its striking the dead from the list, which only
 *     supervisors read.
 *
 * Made fewer states, and why nothing is lost by it
 *   - Looks. Most end without a claim and change nothing. No word returns to an earlier
 *     value (asserted in SWAP), so if a claim succeeds, its task word has not changed
 *     since it was read, and that read can be moved to the claim. So can the read of
 *     an input that is still there. One that is gone (the slot closes, a sweeper
 *     advances the word) was read before it went, at the last moment let us say, by an
 *     instance that has been idle since: `seen` is what could be read of it then, `late`
 *     is who was idle before the first input of the task went and is still.
 *   - An instance's look at the slot after its commit. If that is closing, the instance
 *     must sweep. If not, it may have looked at once, or look later and find it closing:
 *     until it claims something, both are left open (`looks`).
 *   - A sweeper keeps only where the last word was that it left (`from`). The words
 *     before are advanced or left; it goes on with the first after it that is neither.
 *     It reads the slot word with the first thing it does.
 *   - A client may cancel at any time; none decides beforehand to wait for its answer.
 *     That one who waits gets it is asserted at each cancelling: not all are at rest.
 *     PATIENT clients do wait, or die: that searches for stops, as well.
 *     A claim by an old look and a sweep by a late one may happen or not, so where they
 *     could be what saves a closing slot, it is asserted that somebody must look after
 *     it anyway. Else they would hide a stop.
 *   - Fields that nobody reads: the attempts of an outcome, the holder but of claimed,
 *     filling and running. Launch numbers are a series per process, so that they do not
 *     show the order of deaths.
 *   - Processes of a kind are the same but for their numbers, so client 0 is the one
 *     that takes a slot first, instance 0 the one that claims first. Clients try slots
 *     in order, so the first that is taken is slot 0; after that slot 0 may always just
 *     have been found taken.
 *   - Deaths of a number ANY, which are any number, are not counted down.
 *
 * A goto to a label within an atomic goes on with the step (hence `true` before such
 * labels), one to any other label ends it.
 *
 * Properties: the assertions, and that no request is lost: nothing stops before init
 * has seen the end, where every client has had its answers and every slot is free; nor
 * can all be at rest while a client waits.
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
#define ANY 255              /* number of deaths: not counted, which makes fewer states */

/* The graph: the inputs of a task are tasks, or what the client wrote. */
#define TASKS  3
#define LAST   2             /* its output is the answer */
#define CLIENT 3             /* as an input: the client; as a place: what it wrote */
#define NONE   4
#ifdef CHAIN                 /* client -> 0 -> 1 -> 2, and 2 uses the place of 0 again */
#define FIRST(t)  ((t) == 0 -> CLIENT : (t) - 1)
#define SECOND(t) NONE
#define PLACE(t)  ((t) == 2 -> 0 : (t))
#define CONSUMER(t) ((t) + 1)
#define INPUT(t)  SEEN_FIRST
#else                        /* client -> 0 and 1, both -> 2 */
#define FIRST(t)  ((t) < 2 -> CLIENT : 0)
#define SECOND(t) ((t) < 2 -> NONE : 1)
#define PLACE(t)  (t)
#define CONSUMER(t) LAST     /* of 0 and 1 */
#define INPUT(t)  ((t) + 1)  /* SEEN_FIRST or SEEN_SECOND */
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

#ifdef FINE                  /* a read in a step of its own */
#define APART(then, now) goto then
#else
#define APART(then, now) goto now
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
#define CLAIMABLE(s, t) (STATE(T(s, t)) == WAITING \
    && READY(s, FIRST(t), GEN(T(s, t))) && READY(s, SECOND(t), GEN(T(s, t))))
#define IN_SLOTS(what)  (what(0, 0) || what(0, 1) || what(0, 2) \
    || what(SLOTS - 1, 0) || what(SLOTS - 1, 1) || what(SLOTS - 1, 2))
/* Fit for the next request. */
#define FIT(s) (STATE(slot[s]) == FREE && T(s, 0) == WORD(GEN(slot[s]), 0, WAITING, 0) \
    && T(s, 1) == T(s, 0) && T(s, 2) == T(s, 0))

byte place[SLOTS * (TASKS + 1)];
#define P(s, p) place[(s) * (TASKS + 1) + (p)]
#define GARBAGE 0
#define TORN(L) (L)
#define VALUE(g, writer) (16 + (g) * 4 + (writer))
#define INTACT(in, g) \
    ((in) == NONE || P(s, ((in) == CLIENT -> CLIENT : PLACE(in))) == VALUE(g, in))

#define SEATS (INSTANCES + SLOTS)        /* processes that have a launch number */
short dead;                              /* a bit per launch number */
byte launches[SEATS + SUPERVISORS];      /* of each process, but for the first */
#define ME (_pid < SEATS -> _pid + 1 + SEATS * launches[_pid] : 0)
byte instance_deaths = INSTANCE_DEATHS;  /* deaths that may still happen */
byte client_deaths = CLIENT_DEATHS;
byte supervisor_deaths = SUPERVISOR_DEATHS;
byte to_come = SLOTS * REQUESTS;         /* requests that have no slot yet */

/* Old looks: see "Looks" above. */
byte idle = (1 << INSTANCES) - 1;        /* a bit per instance: has nothing in hand */
byte late[SLOTS * TASKS];                /* a bit per instance: may claim by an old look */
byte seen[SLOTS * TASKS];                /* inputs that such a look has seen and that are gone */
#define SEEN_FIRST  1
#define SEEN_SECOND 2
#define SEEN_FAILED 4
#define LATE(s, t, what) \
    ((late[(s) * TASKS + (t)] & 1 << _pid) && (seen[(s) * TASKS + (t)] & (what)))

/* For the properties only. */
byte runs[SLOTS * TASKS];                /* claims of this task for this request */
bool committed[SLOTS * TASKS];           /* it has been committed */
byte sweepers[SLOTS];                    /* processes that are in sweep() or must get there */
#define IS_CLAIMED(s, t) (STATE(T(s, t)) == CLAIMED)
#define LOOKED_AFTER(s) (dead != 0 || sweepers[s] > 0 \
    || IS_CLAIMED(s, 0) || IS_CLAIMED(s, 1) || IS_CLAIMED(s, 2))
#define ALL_REST (dead == 0 && idle == (1 << INSTANCES) - 1 && !IN_SLOTS(CLAIMABLE))

/* What a process knows. */
#define MIND byte s, t, n, from, who; short w, c; bool left, bad
inline forget() {
    s = 0; t = 0; n = 0; from = 0; who = 0; w = 0; c = 0; left = false; bad = false
}

/* At the head of a step: the process dies instead. What dies is started again under
 * a new launch number, before or after the supervisor has dealt with the death. */
#define MAY_DIE(budget, leaves) \
    if :: budget > 0 -> d_step { leaves; dies(budget) }; goto died :: true fi
inline dies(budget) {
    if :: budget != ANY -> budget-- :: else fi;
    if
    :: _pid < SEATS ->
       n = 0;
       do
       :: n < SLOTS * (TASKS + 1) && place[n] == TORN(ME) -> place[n] = GARBAGE
       :: n < SLOTS * (TASKS + 1) && place[n] != TORN(ME) -> n++
       :: else -> break
       od;
       dead = dead | 1 << ME;
       launches[_pid]++;
       assert(ME < 16)
    :: else                              /* a supervisor has no launch number */
    fi;
    if :: _pid < INSTANCES -> idle = idle | 1 << _pid :: else fi;
    forget()
}

/* The first and the last byte of a write into the place p for request g. */
inline begin_write(p, g) {
    assert(GEN(slot[s]) == g && STATE(slot[s]) != FREE);
    assert(P(s, p) == GARBAGE || P(s, p) >= VALUE(0, 0));   /* nobody is writing there */
    P(s, p) = TORN(ME)
}
inline end_write(p, g, writer) {
    assert(GEN(slot[s]) == g && STATE(slot[s]) != FREE);
    assert(P(s, p) == TORN(ME));
    P(s, p) = VALUE(g, writer)
}

/* An input of the waiting task t goes. The idle may have looked just before. */
inline last_look(t, what) {
    if :: seen[s * TASKS + (t)] == 0 -> late[s * TASKS + (t)] = idle :: else fi;
    if
    :: late[s * TASKS + (t)] != 0 -> seen[s * TASKS + (t)] = seen[s * TASKS + (t)] | (what)
    :: else
    fi
}
/* The slot's word w is changed to closing. */
#define SEES_SLOT(t) (FIRST(t) == CLIENT && STATE(w) == RUNNING \
    && STATE(T(s, t)) == WAITING && GEN(T(s, t)) == GEN(w))
inline slot_closes() {
    if :: SEES_SLOT(0) -> last_look(0, SEEN_FIRST) :: else fi;
    if :: SEES_SLOT(1) -> last_look(1, SEEN_FIRST) :: else fi
}
/* The word w of task t is changed: from waiting, or from an outcome to the next generation. */
inline task_changes(t) {
    late[s * TASKS + (t)] = 0;
    seen[s * TASKS + (t)] = 0;
    if
    :: (t) < LAST && STATE(w) >= DONE ->
       if
       :: STATE(T(s, CONSUMER(t))) == WAITING && COMMITTED(w, GEN(T(s, CONSUMER(t)))) ->
          last_look(CONSUMER(t), INPUT(t) | (STATE(w) == FAILED -> SEEN_FAILED : 0))
       :: else
       fi
    :: else
    fi
}
inline busy() {
    idle = idle & ~(1 << _pid);
    looks = 0;
    n = 0;
    do
    :: n < SLOTS * TASKS ->
       late[n] = late[n] & ~(1 << _pid);
       if :: late[n] == 0 -> seen[n] = 0 :: else fi;
       n++
    :: else -> break
    od;
    n = 0
}

/* Closing slot s, by a process that has read its word c, which was closing.
 * Any number may do this at once, or late, when the slot is long in use again. */
#define OPEN(n) (from <= (n) && GEN(T(s, n)) == GEN(c))     /* not advanced, nor left */
#define NEXT_WORD (OPEN(0) -> 0 : (OPEN(1) -> 1 : (OPEN(2) -> 2 : TASKS)))
#ifndef M_FREE_EARLY
#define LEFT left
#else
#define LEFT false
#endif
inline sweep(budget) {
    atomic {
        true;
sweep_now:
        if
        :: c != 0
        :: c == 0 && STATE(slot[s]) == CLOSING -> c = slot[s]
        :: c == 0 && STATE(slot[s]) != CLOSING -> goto swept
        fi;
        n = NEXT_WORD;
        if
        :: n < TASKS && STATE(T(s, n)) == CLAIMED -> left = true; from = n + 1; goto looked
        :: n < TASKS && STATE(T(s, n)) != CLAIMED -> w = T(s, n); APART(advance, advance_now)
        :: n == TASKS && LEFT -> goto swept
        :: n == TASKS && !LEFT ->
           MAY_DIE(budget, sweepers[s]--);
           if
           :: d_step { SWAP(slot[s], c, WORD(NEXT(GEN(c)), 0, FREE, 0));
              P(s, 0) = GARBAGE; P(s, 1) = GARBAGE; P(s, 2) = GARBAGE; P(s, 3) = GARBAGE }
           :: else                       /* another has done it */
           fi;
           goto swept
        fi };
#ifdef FINE
advance: true;
#endif
    atomic {
        true;
advance_now:
        MAY_DIE(budget, sweepers[s]--);
        if
#ifndef M_STORE_AT_SWEEP
        :: d_step { SWAP(T(s, n), w, WORD(NEXT(GEN(w)), 0, WAITING, 0));
           runs[s * TASKS + n] = 0;
           committed[s * TASKS + n] = false;
           task_changes(n) }
#else
        :: true -> T(s, n) = WORD(NEXT(GEN(w)), 0, WAITING, 0)
#endif
        :: else                          /* look at it again */
        fi;
#ifdef M_NO_BUMP
        from = n + 1;
#endif
        w = 0;
looked: n = 0;
        if
        :: LEFT && NEXT_WORD == TASKS -> goto swept
        :: else -> goto sweeping
        fi }
}

#ifdef OPERATORS
#define MAY_BE_FIRST true
#else
#define MAY_BE_FIRST (begun || _pid == 0)
#endif
#define CLAIM(S, K) atomic { MINE(K) && MAY_BE_FIRST && STATE(T(S, K)) == WAITING \
    && (READY(S, FIRST(K), GEN(T(S, K))) || LATE(S, K, SEEN_FIRST)) \
    && (READY(S, SECOND(K), GEN(T(S, K))) || LATE(S, K, SEEN_SECOND)) -> s = S; t = K; goto claim }
bool begun;

active [INSTANCES] proctype Instance() {
    MIND;
    byte looks;                          /* where it committed last, but for 1 */

died:
end_idle:
    if
    :: CLAIM(0, 0)
    :: CLAIM(0, 1)
    :: CLAIM(0, 2)
#if SLOTS > 1
    :: CLAIM(1, 0)
    :: CLAIM(1, 1)
    :: CLAIM(1, 2)
#endif
    :: atomic { looks > 0 && STATE(slot[looks - 1]) == CLOSING ->
           s = looks - 1;
           assert(LOOKED_AFTER(s));
           d_step { busy(); sweepers[s]++ };
           goto sweep_now }
    fi;
    atomic {
        true;
claim:  assert(CLAIMABLE(s, t) || LOOKED_AFTER(s));
        d_step {
            bad = BROKEN(s, FIRST(t)) || BROKEN(s, SECOND(t)) || LATE(s, t, SEEN_FAILED);
            w = T(s, t);
            SWAP(T(s, t), w, WORD(GEN(w), ATTEMPTS(w), CLAIMED, ME));
            task_changes(t);
            busy();
            begun = true;
            runs[s * TASKS + t]++;
            assert(runs[s * TASKS + t] <= 2);
            if
            :: bad                       /* writes nothing */
            :: !bad -> begin_write(PLACE(t), GEN(w))
            fi }
#ifdef M_UNCONFIRMED                     /* its silence was taken for its death */
        ;
        if :: instance_deaths > 0 -> instance_deaths--; dead = dead | 1 << ME :: true fi
#endif
    };
    atomic {                             /* run and commit */
        MAY_DIE(instance_deaths, skip);
        d_step {
            if
            :: bad
            :: !bad ->
               assert(INTACT(FIRST(t), GEN(w)) && INTACT(SECOND(t), GEN(w)));
               end_write(PLACE(t), GEN(w), t)
            fi;
            assert(!committed[s * TASKS + t]);
            committed[s * TASKS + t] = true;
            runs[s * TASKS + t] = 0;
            /* nobody swaps the word of a living holder */
            assert(T(s, t) == WORD(GEN(w), ATTEMPTS(w), CLAIMED, ME));
            T(s, t) = WORD(GEN(w), 0, (bad -> FAILED : DONE), 0);
            w = 0; t = 0; bad = false };
        if
#ifndef M_NO_LOOK_AFTER_COMMIT
        :: STATE(slot[s]) == CLOSING -> sweepers[s]++; goto sweeping
        :: STATE(slot[s]) != CLOSING -> looks = s + 1
#else
        :: true
#endif
        fi;
        d_step { idle = idle | 1 << _pid; forget() };
        goto end_idle };
sweeping:
    sweep(instance_deaths);
    atomic {
        true;
swept:  sweepers[s]--;
        d_step { idle = idle | 1 << _pid; forget() };
        goto end_idle }
}

#define TAKE(S) atomic { requests < REQUESTS && STATE(slot[S]) == FREE \
    && (slot[0] != 0 || (S == 0 && _pid == INSTANCES)) -> s = S; goto take }

#define ANSWERED (GEN(T(s, LAST)) == GEN(w) && STATE(T(s, LAST)) >= DONE)

active [SLOTS] proctype Client() {
    MIND;
    byte requests;

died:
end_free:
    if
    :: TAKE(0)
#if SLOTS > 1
    :: TAKE(1)
#endif
    fi;
    atomic {                             /* take a slot, write, submit */
        true;
take:   w = slot[s];
        d_step {
            assert(FIT(s));
            SWAP(slot[s], w, WORD(GEN(w), 0, FILLING, ME));
            requests++;
            to_come--;
            begin_write(CLIENT, GEN(w)) };
        MAY_DIE(client_deaths, skip);
        d_step {
            end_write(CLIENT, GEN(w), CLIENT);
            slot[s] = WORD(GEN(w), 0, RUNNING, ME);
            w = WORD(GEN(w), 0, RUNNING, ME) } };
    atomic {                             /* read the answer or cancel, and close */
        MAY_DIE(client_deaths, skip);
#ifdef PATIENT                           /* never cancels */
        ANSWERED;
#endif
        d_step {
            assert(slot[s] == w);        /* nobody swaps the word of a living client */
            if
            :: ANSWERED ->
               assert(STATE(T(s, LAST)) == FAILED || INTACT(LAST, GEN(w)));
               assert(STATE(T(s, LAST)) == DONE || INSTANCE_DEATHS - instance_deaths >= 2)
            :: else ->
               assert(!ALL_REST)         /* or it could wait for ever */
            fi;
            slot_closes();
            slot[s] = WORD(GEN(w), 0, CLOSING, 0);
            c = slot[s];
            w = 0;
            sweepers[s]++ } };
sweeping:
    sweep(client_deaths);
    atomic {
        true;
swept:  sweepers[s]--;
        d_step { forget() };
        goto end_free }
}

#if SUPERVISORS > 1
#define APART_2(then, now) goto then
#else
#define APART_2(then, now) APART(then, now)
#endif
#define HIS(n) (STATE(T(s, n)) == CLAIMED && HOLDER(T(s, n)) == who)
active [SUPERVISORS] proctype Supervisor() {
    MIND;

died:  /* its successor starts here and knows only what is on the board */
end_idle:
    atomic {
        dead != 0 ->
        who = 1;
        do
        :: dead & 1 << who -> break
        :: dead >> who + 1 -> who++
        od;
        goto look };
next_slot:
    atomic {
        true;
look:   if
        :: HIS(0) -> n = 0
        :: HIS(1) -> n = 1
        :: HIS(2) -> n = 2
        :: !HIS(0) && !HIS(1) && !HIS(2) -> goto look_at_slot
        fi;
        w = T(s, n);
        APART_2(give_back, give_back_now) };
#if defined(FINE) || SUPERVISORS > 1
give_back: true;
#endif
    atomic {
        true;
give_back_now:
        MAY_DIE(supervisor_deaths, skip);
        if
#ifdef M_STORE_AT_GIVE_BACK
        :: ATTEMPTS(w) == 0 -> T(s, n) = WORD(GEN(w), 1, WAITING, 0)
#else
        :: ATTEMPTS(w) == 0 && SWAP(T(s, n), w, WORD(GEN(w), 1, WAITING, 0))
#endif
#ifdef M_NO_LIMIT
        :: ATTEMPTS(w) == 1 && SWAP(T(s, n), w, WORD(GEN(w), 2, WAITING, 0))
#else
        :: ATTEMPTS(w) == 1 && SWAP(T(s, n), w, WORD(GEN(w), 2, FAILED, 0))
#endif
        :: else
        fi;
        w = 0;
        n = 0 };                         /* one process has one claim at most */
    atomic {
        true;
look_at_slot:
        if
        :: HOLDER(slot[s]) == who -> w = slot[s]; APART(close, close_now)
        :: HOLDER(slot[s]) != who -> goto start_sweep
        fi };
#ifdef FINE
close: true;
#endif
    atomic {  /* close what it had taken */
        true;
close_now:
        MAY_DIE(supervisor_deaths, skip);
        if
        :: d_step { SWAP(slot[s], w, WORD(GEN(w), 0, CLOSING, 0)); slot_closes() }
        :: else
        fi;
        w = 0 };
    atomic {  /* finish what is closing */
        true;
start_sweep:
        sweepers[s]++;
        goto sweep_now };
sweeping:
    sweep(supervisor_deaths);
    atomic {
        true;
swept:  sweepers[s]--;
        d_step { s++; n = 0; from = 0; c = 0; left = false };
        if
        :: s < SLOTS -> goto next_slot
        :: s == SLOTS                    /* dealt with */
        fi;
        MAY_DIE(supervisor_deaths, skip);
        d_step { dead = dead & ~(1 << who); forget() };
        goto end_idle }
}

init {
    to_come == 0 && dead == 0 && FIT(0) && FIT(SLOTS - 1)
}
