variable "alert_usd_a_day" {
  description = "More dollars a day for renders than this, by the log, and an alert fires. What the project is billed is watched by the budget."
  type        = number
  default     = 20

  validation {
    condition     = var.alert_usd_a_day > 0
    error_message = "Give an amount above 0."
  }
}

variable "runbook_url" {
  description = "Where docs/operate.md is read; each alert links to its section."
  type        = string
  default     = "https://github.com/promptreel/promptreel/blob/main/docs/operate.md"

  validation {
    condition     = can(regex("^https://[^#\\s]+$", var.runbook_url))
    error_message = "Give an https URL without a fragment."
  }
}
