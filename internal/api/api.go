// Package api is the HTTP face of the long-running peer (internal/daemon): JSON under /api/v1, described by openapi.json, which the
// tests hold against the routes; events as a stream (events.go); health and metrics (metrics.go); and the page, if there is one.
//
// It is served twice. On a Unix socket, to this machine's owner alone (socket.go), and there it may do whatever that user may. And on
// a port, of the loopback or encrypted (secure.go), where any program and any page in a browser can reach it: there a token or the cookie made of it is needed,
// requests must name this host and come from its own page, and paths must lie below the configured roots (web.go).
//
// Handlers hold no state of the peer: each asks the engine.
package api

import (
	"context"
	"crypto/tls"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"mime"
	"net"
	"net/http"
	"strconv"
	"time"

	"shoal/internal/daemon"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/net/netutil"
)

const (
	// maxBody bounds the body of a request.
	maxBody = 64 << 10
	// maxPage bounds the rows of one answer, pageRows is how many it has if nobody asks for more or fewer.
	maxPage  = 1000
	pageRows = 100
	// maxConns bounds the connections at once.
	maxConns = 256
	// writeTime is how long a reader may take nothing.
	writeTime = 10 * time.Second
)

//go:embed openapi.json
var document []byte

// Config says how a [Server] works.
type Config struct {
	Engine      Engine
	Explain     func(error) *daemon.Failure
	Token       string          // that lets in over the network
	Roots       func() []string // below which paths must lie that come over the network
	Page        fs.FS           // nil: there is none
	URL         string          // of the page, as this machine's browsers reach it; empty: it is not served
	Fingerprint string          // the fingerprint of a certificate that was made here for it; empty: there is none
	Version     string
	Commit      string
	Log         *slog.Logger
}

// Server answers requests. Its methods may be called from any goroutine.
type Server struct {
	door
	cfg      Config
	epoch    string // of event numbers: this process
	patterns []string
	registry *prometheus.Registry
}

// New makes a server.
func New(cfg Config) *Server {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Roots == nil {
		cfg.Roots = func() []string { return nil }
	}
	s := &Server{cfg: cfg, epoch: strconv.FormatInt(time.Now().UnixNano(), 36)}
	s.door = door{
		token: cfg.Token, url: cfg.URL, fingerprint: cfg.Fingerprint, cookie: "shoal", command: "shoal web", page: cfg.Page, explain: cfg.Explain, log: cfg.Log, mux: http.NewServeMux(),
	}
	s.registry = s.newRegistry()
	s.routes()
	return s
}

// routes are all that is served; openapi.json describes each but the page's.
func (s *Server) routes() {
	for _, r := range []struct {
		pattern string
		handler func(w http.ResponseWriter, r *http.Request) error
	}{
		{"GET /healthz", s.health},
		{"GET /readyz", s.ready},
		{"GET /metrics", s.metrics},
		{"GET /login", s.login},
		{"GET /api/v1/openapi.json", s.openapi},
		{"GET /api/v1/status", s.status},
		{"GET /api/v1/events", s.events},
		{"GET /api/v1/log", s.lines},
		{"GET /api/v1/transfers", s.transfers},
		{"GET /api/v1/transfers/{id}", s.transfer},
		{"DELETE /api/v1/transfers/{id}", s.remove},
		{"POST /api/v1/transfers/{id}/pause", s.pause},
		{"POST /api/v1/transfers/{id}/resume", s.resume},
		{"POST /api/v1/shares", s.share},
		{"POST /api/v1/downloads", s.download},
		{"GET /api/v1/limits", s.limits},
		{"PUT /api/v1/limits", s.setLimits},
		{"DELETE /api/v1/limits", s.resetLimits},
		{"GET /api/v1/swarms", s.swarms},
		{"POST /api/v1/swarms", s.join},
		{"GET /api/v1/swarms/{swarm}/files", s.swarmFiles},
		{"GET /api/v1/swarms/{swarm}/members", s.members},
		{"POST /api/v1/swarms/{swarm}/links", s.link},
		{"GET /api/v1/folders", s.folders},
		{"POST /api/v1/logins", s.newLogin},
	} {
		s.patterns = append(s.patterns, r.pattern)
		s.mux.HandleFunc(r.pattern, func(w http.ResponseWriter, req *http.Request) {
			if err := r.handler(w, req); err != nil {
				s.fail(w, err)
			}
		})
	}
	s.mux.HandleFunc("/", s.files)
}

type localKey struct{}

// isLocal says whether a request came over the Unix socket.
func isLocal(r *http.Request) bool { return r.Context().Value(localKey{}) != nil }

// Local answers requests of this machine's owner.
func (s *door) Local() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		s.mux.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), localKey{}, true)))
	})
}

// Serve serves a listener until ctx ends, and closes it.
func (s *door) Serve(ctx context.Context, ln net.Listener, h http.Handler) error {
	server := &http.Server{
		Handler: h, ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 30 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10,
		ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug), BaseContext: func(net.Listener) context.Context { return ctx },
	}
	stop := context.AfterFunc(ctx, func() {
		ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
		defer cancel()
		if server.Shutdown(ending) != nil {
			server.Close()
		}
	})
	bounded := netutil.LimitListener(ln, maxConns)
	if s, is := ln.(*secured); is {
		bounded = tls.NewListener(bounded, s.config)
	}
	err := server.Serve(bounded)
	if !stop() { // it is shutting down: what it answers ends within two seconds
		server.Close()
	}
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// statusOf is what HTTP calls a failure of an exit status.
var statusOf = map[int]int{
	2: http.StatusBadRequest, 3: http.StatusNotFound, 4: http.StatusConflict, 5: http.StatusServiceUnavailable, 6: http.StatusConflict,
	7: http.StatusInsufficientStorage, 8: http.StatusForbidden, 9: http.StatusForbidden, 10: http.StatusGatewayTimeout,
	11: http.StatusConflict, 12: http.StatusConflict,
}

// problem is an error as it is sent: RFC 9457, with the fields that the command line has.
type problem struct {
	Type   string `json:"type"`
	Title  string `json:"title"`
	Status int    `json:"status"`
	daemon.Failure
}

// refusal is an error of HTTP's.
type refusal struct {
	status            int
	code, what, cause string
	next              string
}

func (r *refusal) Error() string { return r.what }

func (s *door) fail(w http.ResponseWriter, err error) {
	var p problem
	var refused *refusal
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &refused):
		p = problem{Status: refused.status, Failure: daemon.Failure{Code: refused.code, What: refused.what, Cause: refused.cause, Next: refused.next, Exit: 2}}
		if refused.status == http.StatusTooManyRequests {
			w.Header().Set("Retry-After", "1")
		}
	case errors.As(err, &large):
		p = problem{Status: http.StatusRequestEntityTooLarge, Failure: daemon.Failure{
			Code: "E-USAGE", What: fmt.Sprintf("the body of the request has more than %d bytes", large.Limit), Exit: 2,
		}}
	default:
		f := s.explain(err)
		p = problem{Status: statusOf[f.Exit], Failure: *f}
		if errors.Is(err, daemon.ErrBusy) {
			p.Status = http.StatusServiceUnavailable
			w.Header().Set("Retry-After", "5")
		}
		if p.Status == 0 {
			p.Status = http.StatusInternalServerError
		}
	}
	p.Type, p.Title = "about:blank", http.StatusText(p.Status)
	w.Header().Set("Content-Type", "application/problem+json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(p.Status)
	b, _ := json.Marshal(p)
	_, _ = w.Write(append(b, '\n'))
}

// send answers with JSON.
func send(w http.ResponseWriter, status int, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(append(b, '\n'))
	return nil
}

// receive reads the body of a request: JSON, with fields that are known, and nothing behind it.
func receive(r *http.Request, v any) error {
	if err := wantJSON(r); err != nil {
		return err
	}
	d := json.NewDecoder(r.Body)
	d.DisallowUnknownFields()
	err := d.Decode(v)
	if err == nil {
		if _, err = d.Token(); errors.Is(err, io.EOF) {
			return nil
		}
		err = errors.New("there is more than one value in it")
	}
	var large *http.MaxBytesError
	if errors.As(err, &large) {
		return err
	}
	return &refusal{http.StatusBadRequest, "E-USAGE", "the body of the request is not what it should be", err.Error(), "see /api/v1/openapi.json"}
}

// wantJSON refuses what a form of another page could send.
func wantJSON(r *http.Request) error {
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		return &refusal{http.StatusUnsupportedMediaType, "E-USAGE", "a request that changes something must have the Content-Type application/json", "", "see /api/v1/openapi.json"}
	}
	return nil
}

// number reads a number of a query.
func number(r *http.Request, name string, other, most int) (int, error) {
	text := r.URL.Query().Get(name)
	if text == "" {
		return other, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 {
		return 0, &refusal{http.StatusBadRequest, "E-USAGE", fmt.Sprintf("%s must be a number", name), "", "see /api/v1/openapi.json"}
	}
	return min(n, most), nil
}
