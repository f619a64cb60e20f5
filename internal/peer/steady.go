package peer

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"shoal/internal/throttle"
)

// Bounds of a conversation. docs/CLASSIC.md section 7.
const (
	// HeaderTimeout is how long a peer has for the rest of a header of which the first byte has come, and for an answer.
	HeaderTimeout = 10 * time.Second
	// IdleTimeout is how long a connection may stay open without a question.
	IdleTimeout = 2 * time.Minute
	// StallTimeout is how long a transfer may pause.
	StallTimeout = 10 * time.Second
	// A transfer that moves fewer than minBytes in minTime has stalled, however steadily it drips.
	minBytes = 30 << 10
	minTime  = 30 * time.Second
)

// ErrStalled is a transfer that paused too long, or moved too slowly to be one.
var ErrStalled = errors.New("stalled")

// steady is a connection whose transfers must move: it sets deadlines for reads and writes that succeed only in part.
type steady struct {
	net.Conn
	ctx      context.Context // ends waits for the limit
	limit    *throttle.Rate  // nil: none
	deadline time.Time       // the one that is set
	since    time.Time       // start of the time over which bytes is counted
	bytes    int64
}

// moved counts bytes of a transfer, and says whether it moves fast enough.
func (s *steady) moved(n int, now time.Time) error {
	if s.since.IsZero() {
		s.since = now
	}
	s.bytes += int64(n)
	if now.Sub(s.since) >= minTime {
		if s.bytes < minBytes {
			return fmt.Errorf("%w: %d bytes in %v", ErrStalled, s.bytes, minTime)
		}
		s.since, s.bytes = now, 0
	}
	return nil
}

// turn waits until n bytes may be moved. That is not the other end's fault.
func (s *steady) turn(n int) error {
	if s.limit == nil {
		return nil
	}
	before := time.Now()
	err := s.limit.Wait(s.ctx, n)
	if !s.since.IsZero() {
		s.since = s.since.Add(time.Since(before))
	}
	return err
}

// Read reads part of a transfer.
func (s *steady) Read(b []byte) (int, error) {
	b = b[:s.limit.Part(len(b))]
	now := time.Now()
	if s.deadline.Sub(now) < StallTimeout-time.Second { // not before each read: there are thousands a second
		s.deadline = now.Add(StallTimeout)
		s.SetReadDeadline(s.deadline)
	}
	n, err := s.Conn.Read(b)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return n, fmt.Errorf("%w: nothing for %v", ErrStalled, StallTimeout)
	}
	if err == nil {
		err = s.moved(n, now)
	}
	if err == nil {
		err = s.turn(n)
	}
	return n, err
}

// Write writes part of a transfer, for as long as the other end takes any of it.
func (s *steady) Write(b []byte) (n int, err error) {
	for n < len(b) {
		part := b[n : n+s.limit.Part(len(b)-n)]
		if err := s.turn(len(part)); err != nil {
			return n, err
		}
		k, err := s.write(part)
		if n += k; err != nil {
			return n, err
		}
	}
	return n, nil
}

// write is Write without a limit.

func (s *steady) write(b []byte) (int, error) {
	written := 0
	for {
		s.SetWriteDeadline(time.Now().Add(StallTimeout))
		n, err := s.Conn.Write(b[written:])
		written += n
		stalled := s.moved(n, time.Now())
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded) && n == 0:
			return written, fmt.Errorf("%w: took nothing for %v", ErrStalled, StallTimeout)
		case errors.Is(err, os.ErrDeadlineExceeded) && stalled == nil:
			continue
		case err != nil && !errors.Is(err, os.ErrDeadlineExceeded):
			return written, err
		}
		return written, stalled
	}
}
