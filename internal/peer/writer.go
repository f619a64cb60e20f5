package peer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"shoal/internal/throttle"
	"shoal/internal/wire"
)

// maxFrameHead is the most bytes before the raw ones in a data frame.
const maxFrameHead = wire.HeaderSize + 10

// errReason is an error that knows how it is told to the other side.
type errReason interface{ Reason() wire.Reason }

// write sends control messages, and between them the data of what is served, one request after the other: the sooner one is
// complete, the sooner others can be given it. One that has to wait for its bytes lets the next one go first.
func (s *Session) write(ctx context.Context) error {
	w := &writer{
		Session: s, pace: newPace(s.cfg.Below), turn: turn{limit: s.cfg.Limit, own: s.cfg.Own},
		pings: time.NewTimer(0), due: time.Now(), held: time.NewTimer(time.Hour),
	}
	defer w.pings.Stop()
	defer w.held.Stop()
	for {
		v, end, waits := w.collect()
		if err := w.control(ctx); err != nil {
			return err
		}
		if ctx.Err() != nil {
			return s.bye(ctx)
		}
		var err error
		switch {
		case v != nil:
			err = w.serve(ctx, v, end)
		case w.unflushed > 0:
			err = w.leave(ctx)
		default:
			w.rest(ctx, waits)
		}
		if err != nil {
			return err
		}
	}
}

// writer is what the loop of write keeps from one turn to the next.
type writer struct {
	*Session
	pace      *pace
	turn      turn
	batch     []byte      // control messages that go next
	frame     []byte      // where data frames are built; nil: nothing is served
	unflushed int         // bytes that were written and have not left
	busy      bool        // something is served or asked, so that silence means more
	pings     *time.Timer // fires when the next ping is due
	due       time.Time   // when that is
	held      *time.Timer // when what is held may go
}

// collect takes what is to be sent: control messages, and what is served next, or ends, and whether anything waits for its bytes.
func (w *writer) collect() (v *Serving, end wire.Reason, waits bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.batch, w.outbox = w.outbox, w.batch[:0]
	if busy := len(w.served)+len(w.asked) > 0; busy != w.busy {
		if w.busy = busy; busy && time.Until(w.due) > busyPing {
			w.pingIn(busyPing)
		}
	}
	v, end = w.following()
	return v, end, len(w.served) > 0
}

func (w *writer) pingIn(d time.Duration) {
	w.due = time.Now().Add(d)
	w.pings.Reset(d)
}

// control sends the control messages.
func (w *writer) control(ctx context.Context) error {
	if len(w.batch) == 0 {
		return nil
	}
	w.unflushed += len(w.batch)
	return w.put(ctx, w.batch)
}

// leave lets what was written leave.
func (w *writer) leave(ctx context.Context) error {
	w.unflushed = 0
	return w.flush(ctx)
}

// rest waits until there is something to send, and gives large buffers back.
func (w *writer) rest(ctx context.Context, waits bool) {
	if cap(w.batch) > 64<<10 {
		w.batch = nil
	}
	if !waits {
		w.frame = nil
	}
	w.pace.idle()
	select {
	case <-ctx.Done():
	case <-w.wake:
	case <-w.pings.C:
		w.pingIn(w.ping(ctx, w.busy))
	}
}

// serve sends the next frame of what is served, or its end, or waits until that may go.
func (w *writer) serve(ctx context.Context, v *Serving, end wire.Reason) error {
	select {
	case <-w.pings.C:
		w.pingIn(w.ping(ctx, w.busy))
	default:
	}
	if end != wire.ReasonOK {
		w.finish(v, end)
		return nil
	}
	wait, err := w.hold(v.ready - v.at)
	if err != nil {
		return err
	}
	if wait > 0 {
		return w.await(ctx, wait)
	}
	if w.frame == nil {
		w.frame = make([]byte, 0, maxFrameHead+wire.MaxDataBytes)
	}
	n, err := w.sendFrame(ctx, v, w.frame, w.turn.take())
	if err != nil {
		return err
	}
	if w.unflushed += n; w.unflushed >= w.pace.frame && v.at < v.Len { // else its end goes with it
		if err := w.leave(ctx); err != nil {
			return err
		}
	}
	w.pace.sent(time.Now(), n)
	return nil
}

// hold returns how long to wait before the next frame, 0 if it may go. Who takes nothing for too long is given up.
func (w *writer) hold(rest int64) (time.Duration, error) {
	now := time.Now()
	if below := w.cfg.Below; below != nil {
		if wait, stuck := w.pace.wait(now, below.Unsent, below.Acked); stuck {
			return 0, ErrOutbox
		} else if wait > 0 {
			return wait, nil
		}
	}
	return w.turn.wait(now, int(min(int64(w.pace.frame), rest))), nil
}

// await waits until a frame that is held may go, or there is something else to send. What was written has left before.
func (w *writer) await(ctx context.Context, wait time.Duration) error {
	if w.unflushed > 0 {
		if err := w.leave(ctx); err != nil {
			return err
		}
	}
	w.held.Reset(wait)
	select {
	case <-ctx.Done():
	case <-w.wake:
	case <-w.held.C:
	}
	return nil
}

// following returns what is served next: the first one of which there is something to send, or that ends, with a reason why. s.mu is held.
func (s *Session) following() (v *Serving, end wire.Reason) {
	for _, v := range s.served {
		lost := false
		if v.ready = v.Len; v.Ready != nil {
			v.ready, lost = v.Ready()
		}
		switch {
		case s.gets[v.Request]:
			return v, wire.ReasonCancelled
		case v.at < v.ready || v.at == v.Len:
			return v, wire.ReasonOK
		case lost:
			return v, wire.ReasonMissing
		}
	}
	return nil, wire.ReasonOK
}

// turn is a session's turn in a limit that it shares with others, and in its own: the bytes of its next data frame, and when they may go.
type turn struct {
	limit *throttle.Rate
	own   *throttle.Rate
	bytes int
	taken bool
	due   time.Time
}

// wait takes a turn for at most so many bytes, if there is none, and returns how long to wait for it. Control messages go meanwhile.
func (t *turn) wait(now time.Time, most int) time.Duration {
	if !t.taken {
		t.bytes = t.own.Part(t.limit.Part(most))
		t.taken, t.due = true, now.Add(max(t.limit.Reserve(now, t.bytes), t.own.Reserve(now, t.bytes)))
	}
	return max(t.due.Sub(now), 0)
}

// take uses the turn, and returns how many bytes it has.
func (t *turn) take() int {
	t.taken = false
	return t.bytes
}

// sendFrame sends the next bytes of what is served, and its end when there are no more.
func (s *Session) sendFrame(ctx context.Context, v *Serving, frame []byte, size int) (n int, err error) {
	if !v.checked {
		v.checked = true
		if !s.check(v) {
			return 0, nil
		}
		if v.Proof != nil {
			parts := v.Proof()
			if v.proven = parts != nil; v.proven {
				if !s.check(v) { // what was read may have been something else
					return 0, nil
				}
				frame = wire.Append(frame[:0], &wire.Proof{Request: v.Request, Parts: parts})
				if err := s.put(ctx, frame); err != nil {
					return 0, err
				}
			}
		}
	}
	want := int(min(int64(size), v.ready-v.at))
	if want > 0 {
		frame = wire.AppendData(frame[:0], v.Request, want)
		head := len(frame)
		frame = frame[:head+want]
		if k, err := v.From.ReadAt(frame[head:], v.Off+v.at); k < want {
			if err == nil {
				err = io.ErrUnexpectedEOF
			}
			if v.Failed != nil {
				v.Failed(err)
			}
			s.finish(v, wire.ReasonRead)
			return 0, nil
		}
		if v.proven && !s.check(v) { // the other finds out what is wrong part by part
			return 0, nil
		}
		if err := s.put(ctx, frame); err != nil {
			return 0, err
		}
		v.at += int64(want)
		if v.Progress != nil {
			v.Progress(int64(want))
		}
	}
	if v.at == v.Len && s.check(v) { // it may have changed while it was read: that is not to look like a lie
		s.finish(v, wire.ReasonOK)
	}
	return want, nil
}

// check says whether what is served is still what it was. If not, it has its end.
func (s *Session) check(v *Serving) bool {
	if v.Check != nil {
		if err := v.Check(); err != nil {
			s.finish(v, reasonOf(err))
			return false
		}
	}
	return true
}

func reasonOf(err error) wire.Reason {
	var known errReason
	if errors.As(err, &known) {
		return known.Reason()
	}
	return wire.ReasonRead
}

// finish ends what is served. The end goes into the outbox, so that it follows the data that was written.
func (s *Session) finish(v *Serving, reason wire.Reason) {
	s.mu.Lock()
	for i, other := range s.served {
		if other == v {
			s.served = append(s.served[:i], s.served[i+1:]...)
			break
		}
	}
	s.end(v.Request, reason)
	s.mu.Unlock()
	v.done(reason)
}

// ping sends a ping, unless the last one is on its way still, or there is no need: nothing moves, and something has come of late. It returns
// when to look again.
func (s *Session) ping(ctx context.Context, busy bool) time.Duration {
	s.lateEnds()
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	heard := s.began.Add(time.Duration(s.heard.Load()))
	if s.pinged > 0 && !busy {
		if wait := s.idleWait(now, now.Sub(heard)); wait > 0 {
			return wait
		}
	}
	if s.pingedAt.IsZero() || now.Sub(s.pingedAt) >= pingEvery {
		if s.pingedAt.Before(heard) { // the first since something came
			s.cfg.Conn.SetReadDeadline(now.Add(deadAfter))
			if ctx.Err() != nil { // which has ended the reader's time, just before
				s.cfg.Conn.SetReadDeadline(time.Unix(1, 0))
			}
		}
		s.pinged++
		s.pingedAt = now
		s.send(&wire.Ping{Number: s.pinged})
	}
	if busy {
		return busyPing
	}
	return pingEvery
}

// idleWait returns when to look again whether an idle session needs a ping, 0 if it does now. However the clock on the wall jumps, that is never more than
// idlePing after the other side was heard.
func (s *Session) idleWait(now time.Time, quiet time.Duration) time.Duration {
	if !s.cfg.Dialled {
		return max(idlePing-quiet, 0)
	}
	next := now.Truncate(idleSlot).Add(idleSlot).Sub(now)
	if quiet+next > idlePing { // the next time would be too late
		return 0
	}
	return next
}

// allow gives the next write its time: less once the session ends, also when that is just now.
func (s *Session) allow(ctx context.Context) {
	if ctx.Err() == nil {
		s.cfg.Conn.SetWriteDeadline(time.Now().Add(deadAfter))
		if ctx.Err() != nil {
			s.cfg.Conn.SetWriteDeadline(time.Now().Add(byeTime))
		}
	}
}

// put writes with a deadline.
func (s *Session) put(ctx context.Context, b []byte) error {
	s.allow(ctx)
	_, err := s.cfg.Conn.Write(b)
	return slow(err)
}

func (s *Session) flush(ctx context.Context) error {
	s.allow(ctx)
	return slow(s.cfg.Flush())
}

func slow(err error) error {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return ErrOutbox
	}
	return err
}

// bye tells the other side that the session ends.
func (s *Session) bye(ctx context.Context) error {
	s.cfg.Conn.SetWriteDeadline(time.Now().Add(byeTime))
	reason := wire.ReasonClosing
	var known errReason
	switch cause := context.Cause(ctx); {
	case errors.Is(cause, ErrProtocol):
		reason = wire.ReasonProtocol
	case errors.As(cause, &known):
		reason = known.Reason()
	}
	_ = s.writeNow(&wire.Bye{Reason: reason}) // it may be gone already
	return nil
}

// lateEnds ends the session if a request that we have cancelled has had no end for too long.
func (s *Session) lateEnds() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for request, a := range s.asked {
		if a.cancelled && time.Since(a.since) > endTime {
			s.fail(fmt.Errorf("%w: request %d was cancelled, and never ended", ErrProtocol, request))
			return
		}
	}
}
