package main

import (
	"errors"

	"shoal/internal/api"
	"shoal/internal/daemon"
	"shoal/internal/identity"
	"shoal/internal/node"
)

// explainPeer tells of the long-running peer.
func explainPeer(err error) *failure {
	var told *daemon.Failure
	var held *identity.HeldError
	var have *daemon.HeldError
	var several *daemon.SeveralError
	var config *configError
	usage := func(next string) *failure {
		return &failure{Code: "E-USAGE", Exit: exitUsage, What: oneLine(err.Error()), Next: next}
	}
	switch {
	case errors.As(err, &told):
		return &failure{
			Code: told.Code, Exit: told.Exit, What: oneLine(told.What), Cause: oneLine(told.Cause), Next: oneLine(told.Next), Retryable: told.Retryable,
		}
	case errors.As(err, &held):
		return &failure{
			Code: "E-LOCKED", Exit: exitPermission, What: oneLine(err.Error()), Cause: "one state folder has one peer",
			Next: "shoal status    shows what it does; or use another folder with  --state DIR",
		}
	case errors.As(err, &have):
		return &failure{
			Code: "E-EXISTS", Exit: exitExists, What: "this peer has " + quote(have.Name) + " already, or is fetching it", Cause: "it is " + quote(have.Path),
			Next: "copy it from there; shoal status    shows what there is",
		}
	case errors.As(err, &config):
		return &failure{Code: "E-CONFIG", Exit: exitUsage, What: oneLine(err.Error()), Next: "mend it, or use another with  shoal peer --config FILE"}
	case errors.As(err, &several):
		return usage("choose one with  --swarm " + several.Chosen[0][:min(8, len(several.Chosen[0]))])
	case errors.Is(err, daemon.ErrNoSwarm):
		return errNoSwarm
	case errors.Is(err, daemon.ErrNoTransfer):
		return &failure{Code: "E-NO-TRANSFER", Exit: exitNotFound, What: oneLine(err.Error()), Next: "shoal status    shows what there is"}
	case errors.Is(err, daemon.ErrFull):
		return &failure{Code: "E-QUOTA", Exit: exitSpace, What: oneLine(err.Error()), Next: "take some off it:  shoal remove NAME"}
	case errors.Is(err, daemon.ErrBusy):
		return &failure{Code: "E-BUSY", Exit: exitUnreachable, What: oneLine(err.Error()), Next: "close a page, and try again", Retryable: true}
	case errors.Is(err, daemon.ErrEnded):
		return errNoPeer
	case errors.Is(err, daemon.ErrWatched):
		return usage("move the file out of the folder, or  shoal pause  it")
	case errors.Is(err, daemon.ErrMore):
		return usage("the same without --data; then remove the directory yourself")
	case errors.Is(err, node.ErrHere):
		return &failure{Code: "E-EXISTS", Exit: exitExists, What: oneLine(err.Error()), Next: "shoal status    shows where it is"}
	case errors.Is(err, daemon.ErrNotOurs):
		return usage("the same without --data; then remove the file yourself")
	case errors.Is(err, daemon.ErrBadRequest), errors.Is(err, api.ErrLongPath):
		return usage("shoal --help")
	case errors.Is(err, daemon.ErrStateNewer):
		return &failure{Code: "E-STATE-NEWER", Exit: exitIncompatible, What: oneLine(err.Error()), Next: "use the newer shoal, or another folder with  --state DIR"}
	case errors.Is(err, daemon.ErrState):
		return &failure{
			Code: "E-STATE", Exit: exitInternal, What: oneLine(err.Error()), Cause: "it was changed by hand, or the disk has lost it",
			Next: "move that file away, and share and get anew: what was downloaded is kept",
		}
	}
	return nil
}

// errNoPeer is what a command is told that needs the peer.
var errNoPeer = &failure{
	Code: "E-NO-PEER", Exit: exitUnreachable, What: "no peer runs on this machine, for this state folder", Next: "start one with  shoal peer", Retryable: true,
}

// told makes of an error what the peer keeps and sends of it.
func told(err error) *daemon.Failure {
	f := explain(err)
	return &daemon.Failure{Code: f.Code, What: f.What, Cause: f.Cause, Next: f.Next, Exit: f.Exit, Retryable: f.Retryable}
}
