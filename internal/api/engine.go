package api

import (
	"context"

	"shoal/internal/daemon"
	"shoal/internal/identity"
	"shoal/internal/node"
)

// Engine is what is asked here of a [daemon.Engine]: a simulated one can stand in its place.
type Engine interface {
	AddDownload(ctx context.Context, r daemon.DownloadRequest) (daemon.Row, error)
	AddShare(ctx context.Context, r daemon.ShareRequest) (daemon.Row, error)
	Detail(ctx context.Context, id string) (daemon.Detail, error)
	InSwarm(ctx context.Context, prefix string, do func(ctx context.Context, m *node.Member) error) error
	Join(ctx context.Context, link identity.Link) (daemon.SwarmRow, error)
	Link(ctx context.Context, prefix, id string) (string, error)
	List(ctx context.Context, from, most int) (rows []daemon.Row, total int, err error)
	Log(ctx context.Context) ([]daemon.Line, error)
	Pause(ctx context.Context, id string) (daemon.Row, error)
	Ready() <-chan struct{}
	Remove(ctx context.Context, id string, data bool) error
	Resume(ctx context.Context, id string) (daemon.Row, error)
	SetLimits(ctx context.Context, l *daemon.Limits) error
	Stats(ctx context.Context, speed bool) (daemon.Stats, error)
	Subscribe(ctx context.Context, after uint64, known bool) (*daemon.Subscription, error)
	Unsubscribe(s *daemon.Subscription)
}
