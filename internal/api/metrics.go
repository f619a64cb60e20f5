package api

import (
	"context"
	"net/http"
	"runtime"
	"slices"
	"time"

	"shoal/internal/daemon"
	"shoal/internal/node"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// maxReasons and maxRoots bound the series that come of reasons for which peers were refused, and of roots.
const (
	maxReasons = 32
	maxRoots   = 16
)

func describe(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("shoal_"+name, help, labels, nil)
}

var (
	descBuild       = describe("build_info", "What this program is.", "version", "revision", "goversion")
	descUp          = describe("peer_start_time_seconds", "When the peer began, in seconds since 1970.")
	descSwarms      = describe("peer_swarms", "Swarms of this machine, by what they are like.", "state")
	descConnections = describe("peer_connections", "Connections with other peers that are open.", "protocol")
	descPayload     = describe("peer_payload_bytes_total", "Bytes of pieces that were moved.", "direction")
	descWasted      = describe("peer_wasted_bytes_total", "Bytes that came and were thrown away.", "reason")
	descTransfers   = describe("transfers", "Transfers on the list.", "state")
	descCompleted   = describe("transfer_completed_total", "Transfers that came to an end.", "result")
	descStalled     = describe("transfers_stalled", "Downloads that wait for somebody who gives.")
	descBanned      = describe("sources_banned_total", "Peers that were cut off.", "reason")
	descRefused     = describe("peer_refused_total", "What others did that they must not.", "reason")
	descFree        = describe("disk_free_bytes", "Bytes that can be written below a root.", "root")
	descSize        = describe("disk_size_bytes", "Bytes of the disk of a root.", "root")
	descLimit       = describe("limit_bytes_per_second", "The rate limits that hold now; 0: none.", "direction")
	descWatchers    = describe("events_subscribers_max", "Subscribers to events that are let in at once.")
)

// collector reads the engine when somebody asks for metrics.
type collector struct{ s *Server }

// Describe sends nothing: the set of series depends on reasons and roots.
func (c collector) Describe(chan<- *prometheus.Desc) {}

// Collect reads all figures.
func (c collector) Collect(out chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	counter := func(d *prometheus.Desc, v float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, v, labels...)
	}
	gauge(descBuild, 1, c.s.cfg.Version, c.s.cfg.Commit, runtime.Version())
	gauge(descWatchers, daemon.MaxSubscribers)
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	st, err := c.s.cfg.Engine.Stats(ctx, false)
	if err != nil {
		return
	}
	gauge(descUp, float64(st.Started.UnixMilli())/1000)
	counter(descPayload, float64(st.Received-st.Wasted), "in")
	counter(descPayload, float64(st.Sent), "out")
	counter(descWasted, float64(st.Wasted), "twice or wrong")
	counter(descCompleted, float64(st.Completed), "complete")
	counter(descCompleted, float64(st.Failed), "failed")
	counter(descBanned, float64(st.Banned), "wrong data")
	gauge(descStalled, float64(st.Stalled))
	gauge(descLimit, float64(st.Now.Up), "out")
	gauge(descLimit, float64(st.Now.Down), "in")
	for _, s := range daemon.States {
		gauge(descTransfers, float64(st.States[s]), string(s))
	}
	states, sessions := map[string]int{"connected": 0, "away": 0, "failed": 0}, 0
	for _, s := range st.Swarms {
		states[s.State]++
		sessions += s.Sessions
	}
	for s, n := range states {
		gauge(descSwarms, float64(n), s)
	}
	gauge(descConnections, float64(sessions), "shoal/2")
	c.refused(ctx, st, counter)
	for i, root := range c.s.cfg.Roots() {
		if free, size, err := diskSpace(root); err == nil && size > 0 && i < maxRoots { // some file systems have no size
			gauge(descFree, float64(free), root)
			gauge(descSize, float64(size), root)
		}
	}
}

// refused sums up what peers did in all swarms.
func (c collector) refused(ctx context.Context, st daemon.Stats, counter func(*prometheus.Desc, float64, ...string)) {
	sums := make(map[string]uint64)
	for _, s := range st.Swarms {
		_ = c.s.cfg.Engine.InSwarm(ctx, s.ID, func(_ context.Context, m *node.Member) error {
			for reason, n := range m.Offences() {
				sums[reason] += n
			}
			return nil
		})
	}
	var reasons []string
	for r := range sums {
		reasons = append(reasons, r)
	}
	slices.Sort(reasons)
	for _, r := range reasons[:min(len(reasons), maxReasons)] {
		counter(descRefused, float64(sums[r]), r)
	}
}

func (s *Server) newRegistry() *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(collector{s}, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return r
}

func (s *Server) metrics(w http.ResponseWriter, r *http.Request) error {
	promhttp.HandlerFor(s.registry, promhttp.HandlerOpts{MaxRequestsInFlight: 2, Timeout: 10 * time.Second}).ServeHTTP(w, r)
	return nil
}

// Health says whether the peer lives, or is ready.
type Health struct {
	OK      bool     `json:"ok"`
	Reasons []string `json:"reasons,omitempty"`
}

func (s *Server) health(w http.ResponseWriter, _ *http.Request) error {
	return send(w, http.StatusOK, Health{OK: true})
}

// ready says whether the list is loaded, the loop answers, and the swarms are listened in. It names nobody.
func (s *Server) ready(w http.ResponseWriter, r *http.Request) error {
	ctx, cancel := context.WithTimeout(r.Context(), 2*time.Second)
	defer cancel()
	st, err := s.cfg.Engine.Stats(ctx, false)
	h := Health{OK: true}
	if err != nil {
		h = Health{Reasons: []string{"the peer does not answer"}}
	}
	for _, sw := range st.Swarms {
		if sw.State == "failed" {
			h.OK, h.Reasons = false, append(h.Reasons, "a swarm cannot be taken part in")
		}
	}
	if h.OK {
		return send(w, http.StatusOK, h)
	}
	return send(w, http.StatusServiceUnavailable, h)
}
