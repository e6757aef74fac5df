# What is promised, and measured against the log-based metrics: jobs succeed, and clips are made in time.

locals {
  finished_generations = "metric.type=\"${local.log_metric_types["generation_seconds"]}\" AND resource.type=\"cloud_run_revision\""
  ended_jobs           = "metric.type=\"${local.log_metric_types["jobs_ended"]}\" AND resource.type=\"cloud_run_revision\""

  # Of clips, the share that is made within so many seconds: p95 60 s, p99 90 s.
  generation_levels = {
    within-60-s = { goal = 0.95, seconds = 60 }
    within-90-s = { goal = 0.99, seconds = 90 }
  }

  service_levels = merge(
    { succeed = google_monitoring_slo.succeed },
    google_monitoring_slo.generation,
  )
}

resource "google_monitoring_custom_service" "promptreel" {
  project      = var.project_id
  service_id   = var.name
  display_name = var.name
}

resource "google_monitoring_slo" "succeed" {
  project             = var.project_id
  service             = google_monitoring_custom_service.promptreel.service_id
  slo_id              = "succeed"
  display_name        = "99 % of jobs succeed"
  goal                = 0.99
  rolling_period_days = 28

  request_based_sli {
    good_total_ratio {
      good_service_filter = "${local.ended_jobs} AND metric.labels.outcome=\"finished\""
      # Whoever cancels his job has lost nothing.
      bad_service_filter = "${local.ended_jobs} AND metric.labels.outcome=\"failed\""
    }
  }
}

resource "google_monitoring_slo" "generation" {
  for_each = local.generation_levels

  project             = var.project_id
  service             = google_monitoring_custom_service.promptreel.service_id
  slo_id              = each.key
  display_name        = "${each.value.goal * 100} % of clips are made within ${each.value.seconds} s"
  goal                = each.value.goal
  rolling_period_days = 28

  request_based_sli {
    distribution_cut {
      distribution_filter = local.finished_generations
      range {
        max = each.value.seconds
      }
    }
  }
}
