package node

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"shoal/internal/identity"
)

// joinTimeout bounds one attempt to join.
const joinTimeout = 15 * time.Second

// Join makes this machine a member of the swarm of a link. A swarm that it is in already is only told the link's servers.
func Join(ctx context.Context, states *identity.States, link identity.Link, machine string) (*identity.Swarm, error) {
	if sw, err := states.Swarm(link.Swarm); err == nil {
		if !sw.IsServer() {
			return sw, sw.SetServers(link.Addrs)
		}
		return sw, nil
	}
	if !link.HasToken() {
		return nil, identity.ErrToken
	}
	joining, err := states.BeginJoin(link, machine)
	if err != nil {
		return nil, err
	}
	reply, err := first(ctx, link.Addrs, func(ctx context.Context, addr string) ([]byte, error) {
		reply, final, err := postJoin(ctx, addr, link, joining.Body)
		if final && err != nil {
			return nil, finalError{err}
		}
		return reply, err
	}, func([]byte) {}) // asked twice, the swarm gives the same
	var final finalError
	switch {
	case err == nil:
		return joining.Finish(reply)
	case errors.As(err, &final):
		return nil, final.error
	}
	return nil, &ServerError{Server: strings.Join(link.Addrs, ","), Err: err}
}

// postJoin asks one server. Final says that its answer is the swarm's, whichever server is asked.
func postJoin(ctx context.Context, addr string, link identity.Link, body []byte) (reply []byte, final bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, joinTimeout)
	defer cancel()
	transport := &http.Transport{
		DialTLSContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			d := tls.Dialer{Config: identity.JoinConfig(link.Swarm), NetDialer: &net.Dialer{Timeout: dialTimeout}}
			return d.DialContext(ctx, network, addr)
		},
		DisableKeepAlives: true,
	}
	defer transport.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+addr+"/join", bytes.NewReader(body))
	if err != nil {
		return nil, false, err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return nil, errors.Is(err, identity.ErrForeign) || errors.Is(err, identity.ErrRole), err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, 8<<20))
	if err != nil {
		return nil, false, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, true, identity.DecodeJoinError(b)
	}
	return b, false, nil
}
