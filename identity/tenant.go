package identity

// DefaultUnknownSenderDays is the default of TenantSettings.UnknownSenderDays.
const DefaultUnknownSenderDays = 90

// TenantSettings are the settings that apply to all instances of a tenant.
type TenantSettings struct {
	// OwnerConfirmation makes a claim wait for a verified owner of the customer, if there is one.
	OwnerConfirmation bool
	// UnknownSenderDays is the number of days without a message after which an unknown sender is
	// deleted.
	UnknownSenderDays int
}

// A TenantEdit changes the settings of a tenant. Nil leaves a setting unchanged.
type TenantEdit struct {
	OwnerConfirmation *bool
	UnknownSenderDays *int
}
