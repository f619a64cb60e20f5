package node

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"os"
	"syscall"
	"time"

	"shoal/internal/swarm"

	"golang.org/x/sync/errgroup"
)

// probeTime bounds the look whether a classic server is at an address.
const probeTime = 3 * time.Second

// ClassicAt says whether a classic swarm server answers at host:port. That protocol says nothing to a lone member, so two enter for a
// moment: a server tells one of the other.
func ClassicAt(ctx context.Context, addr string) bool {
	ctx, cancel := context.WithTimeout(ctx, probeTime)
	defer cancel()
	heard := make(chan struct{}, 1)
	var g errgroup.Group
	for _, port := range []uint16{DefaultPort, DefaultPort + 1} {
		c := swarm.NewClient(swarm.ClientConfig{Server: addr, Port: port})
		g.Go(func() error {
			return c.Run(ctx, func(e swarm.Event) {
				if e.Kind == swarm.Came {
					select {
					case heard <- struct{}{}:
					default:
					}
					cancel()
				}
			})
		})
	}
	_ = g.Wait()
	return len(heard) > 0
}

// ServerAt says whether something at host:port speaks our own protocol. Who it is remains open.
func ServerAt(ctx context.Context, addr string) bool {
	ctx, cancel := context.WithTimeout(ctx, probeTime)
	defer cancel()
	// Nothing is sent and nothing believed but that it speaks it: the handshake ends as soon as it says so.
	cfg := &tls.Config{
		MinVersion: tls.VersionTLS13, NextProtos: []string{protocol}, ServerName: "any.shoal",
		InsecureSkipVerify: true, // #nosec G402 -- it only looks at what answers, and says nothing
		VerifyConnection: func(st tls.ConnectionState) error {
			if st.NegotiatedProtocol == protocol {
				return errSpoken
			}
			return errors.New("another protocol")
		},
	}
	tc, _, err := dialTLS(ctx, addr, cfg)
	if err == nil {
		tc.Close()
	}
	return errors.Is(err, errSpoken)
}

var errSpoken = errors.New("it speaks shoal/2")

// IsHandshake says whether an error came of one who answers, but not as our own servers do.
func IsHandshake(err error) bool {
	var record tls.RecordHeaderError
	return errors.As(err, &record) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET) ||
		errors.Is(err, syscall.EPIPE) || errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded)
}
