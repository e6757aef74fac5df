# The same lists are in shared/adapters/gcp/indexes.py, with the query each is for; a test holds them together.

locals {
  composite_indexes = {
    jobs_of_an_owner                = { collection = "jobs", fields = ["owner", "created_at DESCENDING"] }
    pages_newest_first              = { collection = "jobs", fields = ["owner", "kind", "created_at DESCENDING"] }
    pages_oldest_first              = { collection = "jobs", fields = ["owner", "kind", "created_at"] }
    pages_by_status_newest_first    = { collection = "jobs", fields = ["owner", "kind", "status", "created_at DESCENDING"] }
    pages_by_status_oldest_first    = { collection = "jobs", fields = ["owner", "kind", "status", "created_at"] }
    owners_jobs_by_status           = { collection = "jobs", fields = ["owner", "status"] }
    owners_jobs_of_a_kind_by_status = { collection = "jobs", fields = ["owner", "request.kind", "status"] }
    models_jobs_by_status           = { collection = "jobs", fields = ["request.model", "status"] }
    models_jobs_by_status_in_order  = { collection = "jobs", fields = ["request.model", "status", "created_at"] }
    owners_jobs_by_end              = { collection = "jobs", fields = ["owner", "work_ended_at"] }
    models_jobs_by_end              = { collection = "jobs", fields = ["request.model", "work_ended_at"] }
    due_jobs_by_status              = { collection = "jobs", fields = ["status", "due_at"] }
    amounts_of_a_month              = { collection = "usage", fields = ["owner", "month", "amount"] }
  }

  # Documents go by themselves some time after this moment.
  ttl_fields = {
    jobs        = "expire_at"
    log         = "expire_at"
    idempotency = "expire_at"
    owners      = "expire_at"
    workers     = "expire_at"
  }

  # Never asked for: an index would only cost.
  unindexed_fields = {
    log_lines                    = { collection = "log", field = "lines" }
    jobs_prompt                  = { collection = "jobs", field = "request.prompt" }
    webhook_endpoints_secret     = { collection = "webhook_endpoints", field = "secret" }
    webhook_endpoints_old_secret = { collection = "webhook_endpoints", field = "old_secret" }
  }
}

resource "google_firestore_database" "jobs" {
  project                           = var.project_id
  name                              = var.firestore.database
  location_id                       = coalesce(var.firestore.location, var.region)
  type                              = "FIRESTORE_NATIVE"
  delete_protection_state           = var.deletion_protection ? "DELETE_PROTECTION_ENABLED" : "DELETE_PROTECTION_DISABLED"
  deletion_policy                   = "DELETE"
  point_in_time_recovery_enablement = var.firestore.point_in_time_recovery ? "POINT_IN_TIME_RECOVERY_ENABLED" : "POINT_IN_TIME_RECOVERY_DISABLED"

  depends_on = [google_project_service.enabled]
}

resource "google_firestore_index" "composite" {
  for_each = local.composite_indexes

  project     = var.project_id
  database    = google_firestore_database.jobs.name
  collection  = each.value.collection
  query_scope = "COLLECTION"

  dynamic "fields" {
    for_each = each.value.fields
    content {
      field_path = split(" ", fields.value)[0]
      order      = endswith(fields.value, " DESCENDING") ? "DESCENDING" : "ASCENDING"
    }
  }
}

resource "google_firestore_field" "ttl" {
  for_each = local.ttl_fields

  project    = var.project_id
  database   = google_firestore_database.jobs.name
  collection = each.key
  field      = each.value

  ttl_config {}
  # Nearly equal values, one after the other, make one hot spot of an index.
  index_config {}
}

resource "google_firestore_field" "unindexed" {
  for_each = local.unindexed_fields

  project    = var.project_id
  database   = google_firestore_database.jobs.name
  collection = each.value.collection
  field      = each.value.field

  index_config {}
}

# Firestore knows no roles on a database, but conditions that name one.
resource "google_project_iam_member" "firestore" {
  for_each = merge(local.job_handlers, { courier = google_service_account.courier.member })

  project = var.project_id
  role    = "roles/datastore.user"
  member  = each.value

  condition {
    title       = "${var.name}-jobs"
    description = "Promptreel's database only."
    expression  = "resource.name == \"projects/${var.project_id}/databases/${google_firestore_database.jobs.name}\""
  }
}
