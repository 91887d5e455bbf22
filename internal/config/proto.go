package config

import "tcpcopy/internal/proto/known"

// Proto is the protocol that a mapping's connections speak: auto, none, or its name.
type Proto string

// The words of --proto beside the protocols' names.
const (
	ProtoAuto Proto = "auto" // recognised by the first bytes of each connection, if it can be
	ProtoNone Proto = "none" // none: where answers end is guessed
)

// protos lists the words of --proto.
func protos() []Proto {
	all := []Proto{ProtoAuto, ProtoNone}
	for _, k := range known.Kinds() {
		all = append(all, Proto(k.String()))
	}
	return all
}
