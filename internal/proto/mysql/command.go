package mysql

import (
	"tcpcopy/internal/core/ledger"
	"tcpcopy/internal/proto"
)

// The commands, by their first byte.
const (
	comQuit            = 0x01
	comInitDB          = 0x02
	comQuery           = 0x03
	comFieldList       = 0x04
	comCreateDB        = 0x05
	comDropDB          = 0x06
	comRefresh         = 0x07
	comShutdown        = 0x08
	comStatistics      = 0x09
	comProcessInfo     = 0x0a
	comConnect         = 0x0b // never sent: it stands for a login in Request.Class
	comProcessKill     = 0x0c
	comDebug           = 0x0d
	comPing            = 0x0e
	comChangeUser      = 0x11
	comBinlogDump      = 0x12
	comTableDump       = 0x13
	comConnectOut      = 0x14
	comRegisterReplica = 0x15
	comPrepare         = 0x16
	comExecute         = 0x17
	comSendLongData    = 0x18
	comClose           = 0x19
	comReset           = 0x1a
	comSetOption       = 0x1b
	comFetch           = 0x1c
	comBinlogDumpGTID  = 0x1e
	comResetConnection = 0x1f
	comClone           = 0x20
	comSubscribe       = 0x21
	comBulkExecute     = 0xfa // MariaDB
)

// form describes how a command is treated.
type form struct {
	known   bool
	local   bool       // left out: it concerns production's server itself
	writes  bool       // left out if ReadOnly
	id      bool       // has the id of a prepared statement
	text    bool       // has the text of a statement
	whole   bool       // is collected and changed as a whole
	hint    proto.Hint // of its answer
	nothing bool       // has no answer
}

var forms = [256]form{
	comQuit:            {known: true, nothing: true},
	comInitDB:          {known: true, whole: true},
	comQuery:           {known: true, text: true},
	comFieldList:       {known: true, hint: hintList},
	comCreateDB:        {known: true, writes: true},
	comDropDB:          {known: true, writes: true},
	comRefresh:         {known: true, writes: true},
	comShutdown:        {known: true, local: true},
	comStatistics:      {known: true, hint: hintText},
	comProcessInfo:     {known: true},
	comProcessKill:     {known: true, local: true},
	comDebug:           {known: true, writes: true},
	comPing:            {known: true},
	comChangeUser:      {known: true, whole: true},
	comBinlogDump:      {known: true, local: true},
	comTableDump:       {known: true, local: true},
	comConnectOut:      {known: true, local: true},
	comRegisterReplica: {known: true, local: true},
	comPrepare:         {known: true, text: true, hint: hintPrepare},
	comExecute:         {known: true, id: true},
	comSendLongData:    {known: true, id: true, nothing: true},
	comClose:           {known: true, id: true, nothing: true},
	comReset:           {known: true, id: true},
	comSetOption:       {known: true},
	comFetch:           {known: true, id: true, hint: hintList},
	comBinlogDumpGTID:  {known: true, local: true},
	comResetConnection: {known: true},
	comClone:           {known: true, local: true},
	comSubscribe:       {known: true, local: true},
	comBulkExecute:     {known: true, id: true},
}

// request returns the command as a request, for the account and the gate.
func (f *form) request(command uint8) proto.Request {
	r := proto.Request{Class: command, Hint: f.hint}
	if f.nothing {
		r.Reply = proto.Nothing
	}
	return r
}

// refuses returns why the command is left out whatever its content; None if it is not.
func (f *form) refuses(opt *Settings) ledger.Reason {
	switch {
	case f.local:
		return serverCommand
	case f.writes && opt.ReadOnly:
		return readOnly
	}
	return ledger.None
}
